"""Measure what NVIDIA's compiler makes of Swin graphs, as the tables of docs/fusion.md.

    scripts/measure_fusion.py TABLE [--only PATTERN]

No GPU is needed and nothing is timed: the figures are the kernels that the compiler lists, and the
bytes that they read and write.
"""

from __future__ import annotations

if __name__ == "__main__":
    # In here, because the children in which graphs are compiled import this file again.
    from fusion.command import main

    main()
