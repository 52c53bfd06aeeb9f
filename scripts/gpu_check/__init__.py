"""What ``scripts/gpu-check`` does: build, verify and time whatever this machine can run."""
