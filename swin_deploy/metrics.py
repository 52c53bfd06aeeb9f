"""How far apart two arrays are, as numbers without a verdict."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def mean_power(outputs: FloatArray) -> float:
    """Sum of squares of an image's outputs, averaged over the images: (b, ...) -> number."""
    return float(np.square(outputs.astype(np.float64)).sum() / len(outputs))


def sqnr_db(
    reference: FloatArray, candidate: FloatArray, signal_power: float | None = None
) -> float:
    """Signal to quantisation-noise ratio, in dB, with the noise of the worst image.

    10 log10(signal / noise). The noise is sum (candidate - reference)^2 of the image where that is
    largest, so that one wrong slot of a batch cannot hide behind the others. The signal is the mean
    over the images: a network with few classes gives some images logits close to zero, and
    dividing by those would say more of the image than of the error. Infinite for equal arrays,
    minus infinity where a number that goes into it is not finite; never NaN.

    Args:
        reference: (b, ...).
        candidate: Same shape.
        signal_power: ``mean_power`` over more images than these; None for these.

    Raises:
        ValueError: The shapes differ, or there is nothing to compare.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    if reference.size == 0:
        raise ValueError("nothing to compare")
    if not all(np.isfinite(x).all() for x in (reference, candidate, signal_power or 0.0)):
        return -np.inf
    error = (candidate.astype(np.float64) - reference).reshape(len(reference), -1)
    noise = np.square(error).sum(axis=1).max()
    signal = mean_power(reference) if signal_power is None else signal_power
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


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


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Logits (b, classes) -> probabilities, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def best(values: FloatArray, k: int) -> FloatArray:
    """The k largest of each row, in descending order: (b, classes) -> (b, k)."""
    return -np.sort(-values, axis=1)[:, :k]


def wilson_interval(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that covers the true share in 95 of 100 cases (Wilson, 1927), 0 to 1.

    Args:
        right: How many of the images.
        of: All of them, at least one.
        z: Standard deviations; 1.96 for 95 %.
    """
    share, spread = right / of, z * math.sqrt(right * (of - right) / of + z * z / 4) / (of + z * z)
    middle = (share * of + z * z / 2) / (of + z * z)
    return middle - spread, middle + spread


def mean_sqnr_db(reference: FloatArray, candidate: FloatArray) -> float:
    """As ``sqnr_db``, with the mean noise of all images instead of that of the worst one.

    Args:
        reference: (b, ...).
        candidate: Same shape.
    """
    if not all(np.isfinite(x).all() for x in (reference, candidate)):
        return -np.inf
    noise = mean_power(candidate.astype(np.float64) - reference)
    signal = mean_power(reference)
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf
