"""What ``scripts/measure_fusion.py`` and ``scripts/measure_cpu.py`` are made of."""
