"""Histograms of magnitudes whose bins are the magnitudes themselves, to 11 significant bits.

There are 1024 bins from each power of two to the next. So the range need not be known before, one
pass is enough, and a far outlier does not coarsen the bins of the rest. Every bin is an integer
count, and bins never move: in whatever parts a set of values is counted, the sum is the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from swin_deploy.metrics import FloatArray

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
