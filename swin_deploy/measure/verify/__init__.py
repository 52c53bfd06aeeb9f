"""The gate and the ``verify`` command: comparisons, and where two networks part."""

from __future__ import annotations

from swin_deploy.measure.verify.comparison import Comparison, Verification
from swin_deploy.measure.verify.outputs import compare, compare_outputs, compare_runners
from swin_deploy.network.judge import FLOORS_DB

__all__ = [
    "FLOORS_DB",
    "Comparison",
    "Verification",
    "compare",
    "compare_outputs",
    "compare_runners",
]
