"""What calibration keeps of a tensor: its range, and how often each magnitude occurs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from swin_deploy.graph.magnitudes import Counts, count_magnitudes
from swin_deploy.graph.methods import CalibrationMethod
from swin_deploy.graph.thresholds import PERCENTILE, SMALLEST_THRESHOLD, find_threshold
from swin_deploy.metrics import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """One tensor over the calibration images.

    Attributes:
        images: How many of them.
        minimum: Smallest value.
        maximum: Largest value.
        counts: (bins,) int64, values per bin of magnitude up to the last bin that has any; all
            of them times one factor, the batch of a static graph.
    """

    images: int
    minimum: float
    maximum: float
    counts: Counts

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))

    def threshold(self, method: CalibrationMethod, percentile: float = PERCENTILE) -> float:
        """The magnitude that INT8's 127 stands for: see ``find_threshold``."""
        return find_threshold(self.counts, self.largest, method, percentile)

    def __add__(self, other: TensorStatistics) -> TensorStatistics:
        """Of the images of both."""
        long, short = sorted((self.counts, other.counts), key=len, reverse=True)
        counts = long.copy()
        counts[: len(short)] += short
        return TensorStatistics(
            self.images + other.images,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            counts,
        )


def measure_tensor(values: FloatArray, images: int, weight: int = 1) -> TensorStatistics:
    """Statistics of ``values``, float32 of any shape, not empty.

    Args:
        values: Of one tensor.
        images: How many images they belong to.
        weight: What each value counts.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"values from {low} to {high}")
    return TensorStatistics(images, low, high, count_magnitudes(values) * weight)


def describe_dead(statistics: Mapping[str, TensorStatistics]) -> list[str]:
    """A note for every tensor whose threshold is the floor, whatever the method."""
    return [
        f"{name} is at most {found.largest:g} on all {found.images} calibration images: its "
        f"threshold is the floor, {SMALLEST_THRESHOLD:.1e}"
        for name, found in statistics.items()
        if found.largest < SMALLEST_THRESHOLD
    ]
