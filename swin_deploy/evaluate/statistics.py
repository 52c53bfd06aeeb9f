"""Counts of right images -> shares with their intervals, and whether two artifacts differ."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.metrics import wilson_interval

_MOST_CONFUSED = 20  # pairs of classes in a report
_Z = 1.96  # standard deviations: 95 %

Guesses = NDArray[np.int64]


def describe_accuracy(guesses: Guesses, labels: Guesses) -> dict[str, Any]:
    """Top-1 and top-5 of an artifact.

    Args:
        guesses: The best classes, the best first, (n, k); -1 where an output was not finite.
        labels: (n,).

    Returns:
        "top1" and "top5": how many are "right", the "share", 0 to 1, and its 95 % "interval"
        (Wilson), "top5" of as many as there are; "not_finite": images.
    """
    hits = guesses == labels[:, None]
    return {
        "top1": _describe(int(hits[:, 0].sum()), len(labels)),
        "top5": _describe(int(hits.any(axis=1).sum()), len(labels)),
        "not_finite": int((guesses[:, 0] < 0).sum()),
    }


def _describe(right: int, of: int) -> dict[str, Any]:
    return {"right": right, "share": right / of, "interval": list(wilson_interval(right, of))}


def describe_pair(a: Guesses, b: Guesses, labels: Guesses) -> dict[str, Any]:
    """Two artifacts on the same images.

    Args:
        a: The best class of each image, (n,).
        b: Those of the other artifact.
        labels: (n,).

    Returns:
        "both_right", "only_a_right", "only_b_right" and "both_wrong": images; "drop_points": top-1
        of the first less that of the second, in percentage points, and its 95 %
        "interval_points"; "p_value" of ``mcnemar``; "disagreements": images where they name
        different classes, and the "confusion" of those.
    """
    right_a, right_b = a == labels, b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "both_right": int((right_a & right_b).sum()),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "both_wrong": int((~right_a & ~right_b).sum()),
        "drop_points": 100 * (only_a - only_b) / len(labels),
        "interval_points": [100 * end for end in paired_interval(only_a, only_b, len(labels))],
        "p_value": mcnemar(only_a, only_b),
        "disagreements": int((a != b).sum()),
        "confusion": _confusion(a, b),
    }


def _confusion(a: Guesses, b: Guesses) -> list[dict[str, int]]:
    """The classes that are named differently, the most frequent first, then by class."""
    differ = a != b
    counts = Counter(zip(a[differ].tolist(), b[differ].tolist(), strict=True))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSED]
    return [{"a": x, "b": y, "images": images} for (x, y), images in ranked]


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
    total, term, tail = only_a + only_b, 1, 0
    for successes in range(min(only_a, only_b) + 1):
        tail += term  # term is total over successes
        term = term * (total - successes) // (successes + 1)
    share: float = 2 * tail / 2**total  # whole numbers of any size; only the quotient is rounded
    return min(1.0, share)


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


def list_flips(a: Guesses, b: Guesses, labels: Guesses, names: list[str]) -> list[dict[str, Any]]:
    """The images on which two artifacts disagree: first those that only the first gets right.

    Returns:
        "image", "label", the classes "a" and "b", and "change": "worse", "better", or "wrong"
        where both are.
    """
    order = {"worse": 0, "better": 1, "wrong": 2}
    rows = []
    for row in np.flatnonzero(a != b).tolist():
        label, first, second = int(labels[row]), int(a[row]), int(b[row])
        change = "worse" if first == label else "better" if second == label else "wrong"
        flip = {"image": names[row], "label": label, "a": first, "b": second, "change": change}
        rows.append(flip)
    return sorted(rows, key=lambda flip: order[flip["change"]])
