"""The whole way in one call: stages as data, run in order, gated, published, resumed."""
