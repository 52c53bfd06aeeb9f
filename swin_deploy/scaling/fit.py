"""The exponent of a cost: the slope of its logarithm over that of what it grows with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from swin_deploy.errors import ConfigError
from swin_deploy.scaling.report import Fit

CONFIDENCE = 0.95


def fit_power_law(sizes: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit a power law, with Student's t interval of the slope over the points.

    The interval holds both what scatters and what is no power law: a curve that bends widens it.

    Args:
        sizes: Two or more different ones, positive.
        costs: One for each, positive.

    Raises:
        ConfigError: There are fewer than two sizes, or a value has no logarithm.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or len(set(sizes)) < len(sizes):
        raise ConfigError(f"no slope through costs {list(costs)} of sizes {list(sizes)}")
    if not all(math.isfinite(v) and v > 0 for v in (*sizes, *costs)):
        raise ConfigError(f"costs {list(costs)} of sizes {list(sizes)} are not all above 0")
    order = np.argsort(sizes)
    x, y = (np.log(np.asarray(values, dtype=np.float64)[order]) for values in (sizes, costs))
    line = stats.linregress(x, y)
    low = high = None
    if freedom := len(x) - 2:
        error = float(line.stderr) if np.ptp(y) else 0.0  # scipy has NaN for a constant
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        low, high = float(line.slope) - reach, float(line.slope) + reach
    return Fit(
        points=len(x),
        exponent=float(line.slope),
        low=low,
        high=high,
        largest=float((y[-1] - y[-2]) / (x[-1] - x[-2])),
    )
