"""Scores and what holds -> average precision and F1; numbers and the right ones -> errors.

Intervals are of 95 %, by the bootstrap: photos are drawn again, with replacement, and the same
draws serve all artifacts, so that a difference of two has an interval of its own. A draw is how
often every photo counts, so no scores are sorted again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swin_deploy.network.interface import Task

RESAMPLES = 1000
_AT_ONCE = 50  # draws
_ENDS = (2.5, 97.5)  # percentiles: 95 % lie between them

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and what it is on each draw of photos, (draws,) float64."""

    value: float
    draws: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the percentiles; the value itself where no draw has one."""
        known = self.draws[np.isfinite(self.draws)]
        if not known.size:
            return self.value, self.value
        low, high = np.percentile(known, _ENDS)
        return float(low), float(high)

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, self.draws - other.draws)


def draw_counts(images: int, seed: int = 0) -> Floats:
    """How often each photo counts: once in the first row, then in ``RESAMPLES`` draws.

    Returns:
        (1 + draws, images) float64.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return np.vstack([np.ones((1, images)), drawn])


def estimates(
    task: Task, scores: Floats, targets: Floats, counts: Floats, threshold: float
) -> dict[str, Estimate]:
    """The figures of one artifact, by name.

    Args:
        task: "multi-label" or "regression".
        scores: Probabilities, or numbers, (images, outputs).
        targets: 1 where a label holds and else 0, or the right numbers, likewise.
        counts: From ``draw_counts``.
        threshold: Probability from which a label is said to hold.
    """
    found: dict[str, list[Floats]] = {}
    for rows in _parts(counts):
        if task == "multi-label":
            figures = {"mAP": mean_average_precision(scores, targets > 0, rows)}
            figures |= f1(scores >= threshold, targets > 0, rows)
        else:
            figures = errors(scores, targets, rows)
        for name, values in figures.items():
            found.setdefault(name, []).append(values)
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return {name: Estimate(float(each[0]), each[1:]) for name, each in joined.items()}


def _parts(counts: Floats) -> Iterator[Floats]:
    for start in range(0, len(counts), _AT_ONCE):
        yield counts[start : start + _AT_ONCE]


def average_precision(scores: Floats, holds: Bools, counts: Floats) -> Floats:
    """The sum over scores s of (recall at s - recall above s) * (precision at s), for each draw.

    Photos of equal scores count together, so that their order has no effect. NaN where the label
    holds of no photo.

    Args:
        scores: Of one label, (images,).
        holds: Whether it holds, (images,).
        counts: How often each photo counts, (draws, images).

    Returns:
        (draws,), 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of equal scores
    counted = counts[:, order]
    said = np.cumsum(counted, axis=1)[:, last]
    right = np.cumsum(counted * holds[order], axis=1)[:, last]
    precision = np.divide(right, said, out=np.zeros_like(right), where=said > 0)
    gained = np.diff(right, axis=1, prepend=0)
    total = right[:, -1]
    return _share((precision * gained).sum(axis=1), total)


def mean_average_precision(scores: Floats, holds: Bools, counts: Floats) -> Floats:
    """The mean over the labels that hold of any photo: (images, labels) -> (draws,)."""
    each = [
        average_precision(scores[:, label], holds[:, label], counts)
        for label in range(scores.shape[1])
    ]
    return _mean_of_known(np.stack(each, axis=1))


def f1(said: Bools, holds: Bools, counts: Floats) -> dict[str, Floats]:
    """2 * right / (said + holding), over all labels together, and as the mean of those of labels.

    A label that neither holds of a photo nor is said to has none, and does not count in the mean.

    Args:
        said: Whether a label is said to hold, (images, labels).
        holds: Whether it does, likewise.
        counts: How often each photo counts, (draws, images).

    Returns:
        "F1 micro" and "F1 macro", (draws,) each.
    """
    right = counts @ (said & holds).astype(np.float64)  # (draws, labels)
    either = counts @ said.astype(np.float64) + counts @ holds.astype(np.float64)
    micro = _share(2 * right.sum(axis=1), either.sum(axis=1))
    return {"F1 micro": micro, "F1 macro": _mean_of_known(_share(2 * right, either))}


def errors(values: Floats, targets: Floats, counts: Floats) -> dict[str, Floats]:
    """Mean absolute error and the root of the mean squared error over all outputs.

    Args:
        values: (images, outputs).
        targets: Likewise.
        counts: How often each photo counts, (draws, images).

    Returns:
        "MAE" and "RMSE", (draws,) each, in the unit of the outputs.
    """
    off = np.abs(values - targets)
    images = counts.sum(axis=1)
    return {
        "MAE": counts @ off.mean(axis=1) / images,
        "RMSE": np.sqrt(counts @ (off**2).mean(axis=1) / images),
    }


def _mean_of_known(each: Floats) -> Floats:
    """The mean of each row without its NaNs; NaN where a row has nothing else."""
    known = np.isfinite(each)
    return _share(np.where(known, each, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def _share(part: Floats, whole: Floats) -> Floats:
    """``part / whole``; NaN where there is nothing."""
    found: Floats = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return found
