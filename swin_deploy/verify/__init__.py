"""The gate and the ``verify`` command: comparisons, and where two networks part."""

from swin_deploy.judge import FLOORS_DB
from swin_deploy.verify.comparison import Comparison, Verification
from swin_deploy.verify.outputs import compare, compare_outputs, compare_runners

__all__ = [
    "FLOORS_DB",
    "Comparison",
    "Verification",
    "compare",
    "compare_outputs",
    "compare_runners",
]
