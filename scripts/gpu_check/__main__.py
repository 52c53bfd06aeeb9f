"""``python -m gpu_check``: see ``scripts/gpu-check``."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # the children in which engines are built import this file again
    from gpu_check.command import main

    sys.exit(main())
