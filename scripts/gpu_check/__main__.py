"""``python -m gpu_check``: see ``scripts/gpu-check``."""

from __future__ import annotations

import sys

from gpu_check.command import main

sys.exit(main())
