"""Inputs: photos turned into tensors, and seeded noise."""
