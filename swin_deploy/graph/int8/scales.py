"""The scales of symmetric INT8: x is stored as round(x / scale), cut off at -127 and 127."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
