"""Damaged files, read in process: each gives a result or a typed error, and soon."""
