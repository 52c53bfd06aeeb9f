"""How far apart two arrays are, as numbers without a verdict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def sqnr_db(reference: FloatArray, candidate: FloatArray) -> float:
    """Signal to quantisation-noise ratio of the worst image, in dB.

    Per image (first axis): 10 log10(sum reference^2 / sum (candidate - reference)^2); the smallest
    is returned, so that one wrong slot of a batch cannot hide behind the others. Infinite for equal
    arrays, minus infinity where the candidate is not finite.

    Args:
        reference: (b, ...), finite.
        candidate: Same shape.

    Raises:
        ValueError: The shapes differ, or there is nothing to compare.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    if reference.size == 0:
        raise ValueError("nothing to compare")
    if not np.isfinite(candidate).all():
        return -np.inf
    rows = len(reference)
    signal = np.square(reference.reshape(rows, -1).astype(np.float64)).sum(axis=1)
    error = candidate.reshape(rows, -1).astype(np.float64) - reference.reshape(rows, -1)
    noise = np.square(error).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(noise == 0, np.inf, 10 * np.log10(signal / noise))
    return float(ratio.min())


def cosine_similarity(reference: FloatArray, candidate: FloatArray) -> float:
    """Cosine of the angle between two images' outputs; the smallest over the batch.

    Args:
        reference: (b, ...).
        candidate: Same shape.
    """
    a = reference.reshape(len(reference), -1).astype(np.float64)
    b = candidate.reshape(len(candidate), -1).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(((a * b).sum(axis=1) / lengths).min())


def max_abs_error(reference: FloatArray, candidate: FloatArray) -> float:
    """Largest absolute difference, in the unit of the arrays; NaN where either holds one."""
    difference = candidate.astype(np.float64) - reference.astype(np.float64)
    return float(np.abs(difference).max())


def top1_agreement(reference: FloatArray, candidate: FloatArray) -> float:
    """Share of images, 0 to 1, for which both arrays of logits (b, classes) name the same class."""
    return float((reference.argmax(axis=1) == candidate.argmax(axis=1)).mean())
