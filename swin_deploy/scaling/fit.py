"""The exponent of a cost: the slope of its logarithm over that of what it grows with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mpmath
import numpy as np

from swin_deploy.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """cost = constant * size ** exponent, by least squares of the logarithms.

    Attributes:
        points: That it was fitted to.
        exponent: The slope.
        low: Lower end of its 95 % interval; None where two points leave nothing to tell it from.
        high: Upper end, likewise.
        largest: Slope between the two largest sizes alone: of a sum of powers, the exponent
            grows with the size.
    """

    points: int
    exponent: float
    low: float | None
    high: float | None
    largest: float


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
    centred = x - x.mean()
    spread = float(centred @ centred)
    exponent = float(centred @ y) / spread
    residuals = y - y.mean() - exponent * centred
    freedom = len(x) - 2
    low = high = None
    if freedom:
        error = math.sqrt(float(residuals @ residuals) / freedom / spread)
        reach = student_quantile(freedom) * error
        low, high = exponent - reach, exponent + reach
    largest = float((y[-1] - y[-2]) / (x[-1] - x[-2]))
    return Fit(points=len(x), exponent=exponent, low=low, high=high, largest=largest)


def student_quantile(freedom: int) -> float:
    """The t that Student's distribution stays within, on both sides of zero, in 95 % of cases.

    The probability beyond +-t is the regularised incomplete beta function I_x(freedom / 2, 1 / 2)
    at x = freedom / (freedom + t^2) (Abramowitz and Stegun 1964, 26.7.1).
    """

    def beyond(t: mpmath.mpf) -> mpmath.mpf:
        x = freedom / (freedom + t * t)
        return mpmath.betainc(freedom / 2, 0.5, 0, x, regularized=True) - (1 - CONFIDENCE)

    return float(mpmath.findroot(beyond, (1.5, 15), solver="anderson"))
