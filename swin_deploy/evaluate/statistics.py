"""Counts of right images -> shares with their intervals, and whether two artifacts differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from swin_deploy.evaluate.report import CHANGES, Change, Confused, Flip, Pair, Right
from swin_deploy.metrics import wilson_interval

_MOST_CONFUSED = 20  # pairs of classes in a report
_Z = 1.96  # standard deviations: 95 %

Guesses = NDArray[np.int64]


def count_right(guesses: Guesses, labels: Guesses) -> Right:
    """The images that an artifact has right.

    Args:
        guesses: The classes of which one has to be right, (n, k); -1 where an output was not
            finite.
        labels: (n,).
    """
    right = int((guesses == labels[:, None]).any(axis=1).sum())
    share, interval = right / len(labels), wilson_interval(right, len(labels))
    return Right(right=right, share=share, interval=interval)


def describe_pair(
    pair: tuple[str, str], a: Guesses, b: Guesses, labels: Guesses, names: Sequence[str]
) -> Pair:
    """Two artifacts on the same images.

    Args:
        pair: Their names.
        a: The best class of each image, (n,).
        b: Those of the other artifact.
        labels: (n,).
        names: Of the images.
    """
    right_a, right_b = a == labels, b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    low, high = paired_interval(only_a, only_b, len(labels))
    return Pair(
        a=pair[0],
        b=pair[1],
        both_right=int((right_a & right_b).sum()),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        drop_points=100 * (only_a - only_b) / len(labels),
        interval_points=(100 * low, 100 * high),
        p_value=mcnemar(only_a, only_b),
        disagreements=int((a != b).sum()),
        confusion=_confusion(a, b),
        flips=_flips(a, b, labels, names),
    )


def _confusion(a: Guesses, b: Guesses) -> tuple[Confused, ...]:
    """The classes that are named differently, the most frequent first, then by class."""
    differ = a != b
    counts = Counter(zip(a[differ].tolist(), b[differ].tolist(), strict=True))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSED]
    return tuple(Confused(a=x, b=y, images=images) for (x, y), images in ranked)


def mcnemar(only_a: int, only_b: int) -> float:
    """How often two equally good artifacts would differ as much as this: the exact test.

    Images that both get right, or both wrong, say nothing of the difference. Of the others each is
    as likely one's as the other's if neither is better, so the p-value is two-sided binomial with
    one half (McNemar, Psychometrika 12, 1947; the exact form as in Fagerland, Lydersen and Laake,
    BMC Medical Research Methodology 13:91, 2013).

    Args:
        only_a: Images that the first alone gets right.
        only_b: Images that the second alone gets right.
    """
    from scipy.stats import binomtest

    if not only_a + only_b:
        return 1.0  # no image tells them apart
    return float(binomtest(only_a, only_a + only_b).pvalue)


def paired_interval(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares of the same images, -1 to 1.

    Wald's, with half an image added to each of the four counts (Agresti and Min, Statistics in
    Medicine 24, 2005), so that it has a width where few images differ.

    Args:
        only_a: Images that the first alone gets right.
        only_b: Images that the second alone gets right.
        images: All of them.
    """
    total, sum_, difference = images + 2, only_a + only_b + 1, only_a - only_b
    spread = _Z * math.sqrt(sum_ - difference**2 / total) / total
    middle = difference / total
    return max(-1.0, middle - spread), min(1.0, middle + spread)


def _flips(a: Guesses, b: Guesses, labels: Guesses, names: Sequence[str]) -> tuple[Flip, ...]:
    """The images on which the two disagree: first those that only the first gets right."""
    rows = []
    for row in np.flatnonzero(a != b).tolist():
        label, first, second = int(labels[row]), int(a[row]), int(b[row])
        change: Change = "worse" if first == label else "better" if second == label else "wrong"
        rows.append(Flip(image=names[row], label=label, a=first, b=second, change=change))
    return tuple(sorted(rows, key=lambda flip: CHANGES.index(flip.change)))
