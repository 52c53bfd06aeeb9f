"""From a tensor's statistics to the magnitude that INT8's 127 stands for.

Symmetric INT8: x is stored as round(x / s), cut off at -127 and 127, with s = threshold / 127.

There are 1024 bins from each power of two to the next. So the range need not be known before, one
pass is enough, and a far outlier does not coarsen the bins of the rest. Every bin is an integer
count, and bins never move: in whatever parts a set of values is counted, the sum is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError
from swin_deploy.graph.int8 import CalibrationMethod, require_method
from swin_deploy.network.judge import FloatArray

Counts = NDArray[np.int64]
FRACTION_BITS = 10
PER_OCTAVE = 2**FRACTION_BITS  # bins from a power of two to the next
LOWEST_EXPONENT = -40  # all below 2**-40 shares the first bin with zero
_SHIFT = 23 - FRACTION_BITS  # of the 23 fraction bits of binary32
_FIRST = (127 + LOWEST_EXPONENT) << FRACTION_BITS  # 127: the exponent bias of binary32
MOST_BINS = (255 << FRACTION_BITS) - _FIRST  # for all finite numbers


def count_magnitudes(values: FloatArray) -> Counts:
    """Values per bin, (bins,) int64, up to the last bin that has any.

    Args:
        values: Of any shape, float32, finite and not empty.
    """
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    bits = flat.view(np.int32) & 0x7FFFFFFF  # without the sign, magnitudes sort as integers
    bits >>= _SHIFT
    np.maximum(bits, _FIRST, out=bits)
    bits -= _FIRST
    return np.bincount(bits).astype(np.int64, copy=False)


def bin_edges(bins: int) -> NDArray[np.float64]:
    """Where ``bins`` bins begin, and where the last one ends: (bins + 1,), ascending from 0."""
    bits = (np.arange(bins + 1, dtype=np.int32) + _FIRST) << _SHIFT
    edges = np.minimum(bits.view(np.float32), np.finfo(np.float32).max).astype(np.float64)
    edges[0] = 0.0
    return edges


LEVELS = 127  # on each side of zero
PERCENTILE = 99.99
# The smallest number above zero that FP16 has, as the smallest scale.
SMALLEST_THRESHOLD = LEVELS * 2.0**-24
_LEVELS_OF_MAGNITUDE = 128  # in the entropy method
_MOST_CUT = 0.01  # share of the values that are not zero beyond the lowest candidate
_STEP = 16  # bins from one candidate to the next: 0.8 to 1.6 %


def find_threshold(
    counts: Counts, largest: float, method: CalibrationMethod, percentile: float = PERCENTILE
) -> float:
    """The magnitude at which to cut the tensor off; finite, and at least ``SMALLEST_THRESHOLD``.

    Args:
        counts: The tensor's histogram, as ``count_magnitudes`` makes it.
        largest: Its largest magnitude.
        method: "minmax": the largest magnitude. "percentile": the magnitude that ``percentile`` %
            of the values do not exceed, to 0.1 %. "entropy": where the distribution loses the
            least information. "mse": where the expected square of the error is smallest. The last
            two cut off at most 1 % of what is not zero.
        percentile: Above 0, at most 100.
    """
    if not 0 < percentile <= 100:
        raise ConfigError(f"percentile {percentile} is not above 0 and at most 100")
    require_method(method)
    if len(counts) == 1:  # as good as zero everywhere
        return max(largest, SMALLEST_THRESHOLD)
    if method == "minmax":
        threshold = largest
    elif method == "percentile":
        threshold = _percentile(counts, percentile)
    else:
        threshold = _least(_LOSSES[method], counts)
    return max(min(threshold, largest), SMALLEST_THRESHOLD)


def _percentile(counts: Counts, percentile: float) -> float:
    reached = np.cumsum(counts)
    index = int(np.searchsorted(reached, np.ceil(reached[-1] * (percentile / 100))))
    if index == 0:  # so many zeros that the percentile is one: they need no range, the others do
        index = len(counts) - 1
    return float(bin_edges(len(counts))[index + 1])


@dataclass(frozen=True, slots=True)
class _Histogram:
    """The occupied bins of a tensor, fine enough for every threshold that is tried.

    Attributes:
        lower: Where each begins.
        upper: Where each ends.
        counts: Values in each, above zero.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    counts: NDArray[np.float64]


def _least(loss: Callable[[_Histogram, float], float], counts: Counts) -> float:
    """The threshold of least ``loss``; of equals the largest."""
    reached = np.cumsum(counts[1:])  # without the zeros
    start = 1 + int(np.searchsorted(reached, reached[-1] * (1 - _MOST_CUT)))
    first = (start // _STEP + 1) * _STEP
    edges = bin_edges(len(counts))
    candidates = edges[[*range(first, len(counts), _STEP), len(counts)]].tolist()
    histogram = _coarsen(counts, start // PER_OCTAVE)
    losses = [loss(histogram, threshold) for threshold in reversed(candidates)]
    return float(candidates[-1 - int(np.argmin(losses))])


def _coarsen(counts: Counts, octave: int) -> _Histogram:
    """Up to the end of ``octave`` 2048 bins of one width, above it all bins as they are.

    Octaves double, so that bins merge whole.
    """
    start = (octave + 1) * PER_OCTAVE
    low = np.zeros(start, dtype=np.int64)
    low[: len(counts)] = counts[:start]
    edges = bin_edges(max(start, len(counts)))
    width = edges[start] / (2 * PER_OCTAVE)
    uniform = np.arange(2 * PER_OCTAVE + 1) * width
    merged = np.bincount((edges[:start] / width).astype(np.int64), weights=low)
    lower = np.concatenate([uniform[:-1], edges[start:-1]])
    upper = np.concatenate([uniform[1:], edges[start + 1 :]])
    values = np.concatenate([merged, counts[start:].astype(np.float64)])
    used = values > 0
    return _Histogram(lower[used], upper[used], values[used])


def _squared_error(histogram: _Histogram, threshold: float) -> float:
    """Sum of the squared errors of INT8, with the values of a bin spread evenly over it.

    A value x next to the level k s is off by x - k s; the antiderivative of its square is
    (x - k s)^3 / 3, and s^3 / 12 for each level that was passed.
    """
    scale = threshold / LEVELS

    def antiderivative(x: NDArray[np.float64]) -> NDArray[np.float64]:
        level = np.minimum(np.rint(x / scale), LEVELS)
        off = x - level * scale
        return level * (scale**3 / 12) + off * off * off / 3

    spread = antiderivative(histogram.upper) - antiderivative(histogram.lower)
    return float(histogram.counts @ (spread / (histogram.upper - histogram.lower)))


def _divergence(histogram: _Histogram, threshold: float) -> float:
    """Kullback-Leibler divergence, sum P log(P / Q).

    As in S. Migacz, "8-bit inference with TensorRT", GTC 2017: P is the distribution up to the
    threshold, with all that is cut off in its last bin; Q is the same without that, merged to 128
    levels and spread over the same bins; empty bins count nowhere. There P has 2048 bins from zero
    to the largest value, so that one far outlier puts all others in one bin, and nothing seems
    lost. Here bins are at most 1/8 of a level at every threshold, and not of one width, by which Q
    is spread.
    """
    inside = int(np.searchsorted(histogram.upper, threshold, side="right"))
    kept = histogram.counts[:inside]
    width = histogram.upper[:inside] - histogram.lower[:inside]
    level = (histogram.lower[:inside] * (_LEVELS_OF_MAGNITUDE / threshold)).astype(np.int64)
    cut_off = histogram.counts[inside:].sum()
    p = kept.copy()
    p[-1] += cut_off
    room = np.bincount(level, weights=width)  # of the bins in each level
    q = (np.bincount(level, weights=kept) / np.maximum(room, np.finfo(float).tiny))[level] * width
    return float(p @ np.log((p / p.sum()) / (q / q.sum())))


_LOSSES: dict[str, Callable[[_Histogram, float], float]] = {
    "entropy": _divergence,
    "mse": _squared_error,
}


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


LARGEST = 127  # symmetric: -128 is not used, so that x and -x are quantised alike

# The smallest scale, by the precision of what is around: the smallest normal number. In FP16 a
# scale below it loses bits, and a runtime that flushes such numbers would divide by zero.
SMALLEST_SCALE: dict[Literal["fp32", "fp16"], float] = {
    "fp16": float(np.finfo(np.float16).smallest_normal),
    "fp32": float(np.finfo(np.float16).smallest_subnormal),  # scales are rounded to FP16 in both
}


def round_scale(scale: NDArray[np.floating], smallest: float) -> NDArray[np.float32]:
    """Up to the next number that FP16 has too, so that both precisions have the same scales.

    Args:
        scale: As wanted: the largest magnitude over ``LARGEST``.
        smallest: Of ``SMALLEST_SCALE``; scales below it are raised to it.
    """
    wanted = np.maximum(scale, smallest).astype(np.float32)
    half = wanted.astype(np.float16)
    half = np.where(half < wanted, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(half, dtype=np.float32)
