"""Results of shards -> the report: counts, comparisons, and the images that flipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from swin_deploy.data.labelled import LabelledSet
from swin_deploy.evaluate.field import Field
from swin_deploy.evaluate.report import Effort, Evaluated, EvaluateReport, Identity, LeftOut
from swin_deploy.evaluate.shards import BEST, ShardResult
from swin_deploy.evaluate.statistics import count_right, describe_pair
from swin_deploy.files import digest


def make_report(
    field: Field,
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
