"""The gate and the ``verify`` command: floors, comparisons, and where two networks part."""

from swin_deploy.verify.comparison import FLOORS_DB, Comparison, Verification
from swin_deploy.verify.outputs import (
    compare,
    compare_best,
    compare_outputs,
    compare_runners,
    rejudge,
    without_floor,
)

__all__ = [
    "FLOORS_DB",
    "Comparison",
    "Verification",
    "compare",
    "compare_best",
    "compare_outputs",
    "compare_runners",
    "rejudge",
    "without_floor",
]
