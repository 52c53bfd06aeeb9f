"""Engines: which targets there are, how each is built, and what the compiler made of the graph."""
