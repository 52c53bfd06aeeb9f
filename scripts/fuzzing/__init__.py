"""Damaged files: each gives a result or a typed error, and soon."""
