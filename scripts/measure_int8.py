"""Measure what INT8 gives and what it costs, as the tables of docs/int8.md.

    scripts/measure_int8.py placements [--network NAME] [--batch N]
    scripts/measure_int8.py accuracy
    scripts/measure_int8.py speed [--turns N] [--form FORM]

No GPU is needed, and no time is one of a GPU: for those there are the kernels that NVIDIA's
compiler lists, and the bytes that they read and write. Needs what ``scripts/test`` installs.
"""

from __future__ import annotations

if __name__ == "__main__":
    # In here, because the children in which graphs are compiled import this file again.
    from quantisation.command import main

    main()
