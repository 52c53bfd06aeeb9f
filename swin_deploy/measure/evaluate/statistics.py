"""Counts of right images -> shares with intervals, pairs that differ, and images that flipped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.files import digest
from swin_deploy.data.labelled import LabelledSet
from swin_deploy.measure.evaluate.candidates import Candidates
from swin_deploy.measure.evaluate.report import (
    CHANGES,
    Change,
    Confused,
    Effort,
    Evaluated,
    EvaluateReport,
    Flip,
    Identity,
    LeftOut,
    Pair,
    Right,
)
from swin_deploy.measure.evaluate.shards import BEST, ShardResult
from swin_deploy.network.judge import wilson_interval

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


def make_report(
    field: Candidates,
    labelled: LabelledSet,
    results: Sequence[ShardResult],
    remember: Callable[[str], None],
    notes: Sequence[str],
    *,
    out: Path,
    identity: Identity,
    work: Effort,
) -> EvaluateReport:
    """The report; nothing but ``work`` of it depends on who did that.

    Args:
        field: What was evaluated.
        labelled: On what.
        results: Of all shards, in order.
        remember: Hears what the user has to know.
        notes: All that it has heard.
        out: Where the report goes.
        identity: What the results depend on.
        work: Who did the shards.
    """
    images = labelled.sample.images
    positions = [position for result in results for position in result.positions]
    left_out = tuple(
        LeftOut(image=images[position].name, problem=why)
        for result in results
        for position, why in result.left_out
    )
    if left_out:
        remember(f"{len(left_out)} photos cannot be read, and are left out")
    names = [images[position].name for position in positions]
    labels = np.array([labelled.labels[position] for position in positions], dtype=np.int64)
    guesses = [
        np.array([row for result in results for row in result.classes[index]], dtype=np.int64)
        for index in range(len(field.artifacts))
    ]
    rows = tuple(
        Evaluated(
            name=artifact.name,
            path=str(artifact.path),
            precision=artifact.precision,
            sha256=artifact.hashes,
            top1=count_right(found[:, :1], labels),
            # It means nothing of an artifact that gives fewer, unless there are no more.
            top5=count_right(found, labels) if found.shape[1] >= min(BEST, field.classes) else None,
            not_finite=int((found[:, 0] < 0).sum()),
        )
        for artifact, found in zip(field.artifacts, guesses, strict=True)
    )
    for row in rows:
        if row.not_finite:
            remember(f"{row.name} gives no finite outputs for {row.not_finite} images")
    return EvaluateReport(
        data=str(labelled.sample.source),
        images=len(positions),
        found=labelled.sample.found,
        classes=field.classes,
        class_names=field.class_names,
        left_out=left_out,
        artifacts=rows,
        pairs=tuple(
            describe_pair((rows[0].name, row.name), guesses[0][:, 0], found[:, 0], labels, names)
            for row, found in zip(rows[1:], guesses[1:], strict=True)
        ),
        not_run=field.not_run,
        predictions_sha256=digest([positions, [found.tolist() for found in guesses]]),
        report=str(out),
        notes=tuple(notes),
        identity=identity,
        work=work,
    )
