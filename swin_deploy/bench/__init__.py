"""How fast an engine is beside the eager network it came from."""
