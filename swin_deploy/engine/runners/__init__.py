"""Runtimes behind one protocol, ``base.Runner``: open, run, close; and what they share."""
