"""Which places of a network suffer from INT8, and the fewest to leave out of it."""
