"""Runtimes behind one protocol: open, run, close. One small file each."""
