"""What ``scores.json`` holds: multi-label and regression networks on photos with targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.core.files import digest
from swin_deploy.core.records import Count, Interval, Number, Reasons, Rows, Text, finite
from swin_deploy.data.targets import TargetSet
from swin_deploy.measure.evaluate.candidates import Candidates
from swin_deploy.measure.evaluate.report import Effort, Identity, LeftOut
from swin_deploy.measure.evaluate.scores import RESAMPLES, Estimate, draw_counts, estimates
from swin_deploy.measure.evaluate.shards import ShardResult
from swin_deploy.network.interface import Task

KIND = "scores"
SCHEMA_VERSION = 1
THRESHOLD = 0.5  # where nobody says another


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure and its 95 % interval (bootstrap over photos)."""

    name: Text
    value: Number
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An artifact.

    Attributes:
        name: What tables call it.
        path: What it was found by.
        precision: Of its graph.
        sha256: Of its files, sorted.
        figures: mAP, micro and macro F1; or MAE and RMSE.
    """

    name: Text
    path: Text
    precision: Text
    sha256: Rows[Text]
    figures: Rows[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Two artifacts on the same photos.

    Attributes:
        a: The first of all.
        b: The other.
        figures: Those of b less those of a.
        largest: Difference of two scores, or numbers, of one photo.
        decided_differently: Labels of photos on which one is above the threshold and the other
            is not; None of a regression.
    """

    a: Text
    b: Text
    figures: Rows[Figure]
    largest: Number
    decided_differently: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoresReport:
    """``scores.json``.

    Attributes:
        task: What the outputs mean.
        threshold: Probability from which a label is said to hold; None of a regression.
        data: Where the photos are.
        images: How many were evaluated.
        found: How many there are.
        outputs: How many labels or numbers there are.
        names: Of them, by index; empty where they are not known.
        resamples: Of the bootstrap.
        left_out: Photos that cannot be read.
        artifacts: The first is what the others are compared with.
        pairs: The others, each with the first.
        not_run: Engine -> why it cannot run on this machine.
        scores_sha256: Of all that all artifacts gave.
        report: Where it was written.
        notes: What the user has to know.
        identity: What all of it depends on, but for the work.
        work: Who did it.
    """

    task: Task
    threshold: Number | None
    data: Text
    images: Count
    found: Count
    outputs: Count
    names: tuple[Text, ...]
    resamples: Count
    left_out: Rows[LeftOut]
    artifacts: Rows[Scored]
    pairs: Rows[Apart]
    not_run: Reasons
    scores_sha256: Text
    report: Text
    notes: Rows[Text]
    identity: Identity
    work: Effort

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``evaluate --json``."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **finite(asdict(self))}


def make_scores_report(
    field: Candidates,
    targets: TargetSet,
    results: Sequence[ShardResult],
    threshold: float,
    remember: Callable[[str], None],
    notes: Sequence[str],
    *,
    out: Path,
    identity: Identity,
    work: Effort,
) -> ScoresReport:
    """The report; nothing but ``work`` of it depends on who did that.

    Args:
        field: What was evaluated.
        targets: On what.
        results: Of all shards, in order.
        threshold: Probability from which a label is said to hold.
        remember: Hears what the user has to know.
        notes: All that it has heard.
        out: Where the report goes.
        identity: What the results depend on.
        work: Who did the shards.
    """
    images = targets.sample.images
    positions = [position for result in results for position in result.positions]
    left_out = tuple(
        LeftOut(image=images[position].name, problem=why)
        for result in results
        for position, why in result.left_out
    )
    if not positions:
        raise InputError(f"no photo of {targets.sample.source} can be read", "others")
    if left_out:
        remember(f"{len(left_out)} photos cannot be read, and are left out")
    wanted = np.array([targets.targets[position] for position in positions], dtype=np.float64)
    scores = [
        np.array([row for result in results for row in result.scores[index]], dtype=np.float64)
        for index in range(len(field.artifacts))
    ]
    counts, several = draw_counts(len(positions)), field.task == "multi-label"
    found = [estimates(field.task, each, wanted, counts, threshold) for each in scores]
    rows = tuple(
        Scored(
            name=artifact.name,
            path=str(artifact.path),
            precision=artifact.precision,
            sha256=artifact.hashes,
            figures=_figures(own),
        )
        for artifact, own in zip(field.artifacts, found, strict=True)
    )
    return ScoresReport(
        task=field.task,
        threshold=threshold if several else None,
        data=str(targets.sample.source),
        images=len(positions),
        found=targets.sample.found,
        outputs=field.classes,
        names=field.class_names,
        resamples=RESAMPLES,
        left_out=left_out,
        artifacts=rows,
        pairs=tuple(
            Apart(
                a=rows[0].name,
                b=row.name,
                figures=_figures({name: own[name] - found[0][name] for name in own}),
                largest=float(np.abs(other - scores[0]).max()),
                decided_differently=int(((other >= threshold) != (scores[0] >= threshold)).sum())
                if several
                else None,
            )
            for row, own, other in zip(rows[1:], found[1:], scores[1:], strict=True)
        ),
        not_run=field.not_run,
        scores_sha256=digest([positions, [each.tolist() for each in scores]]),
        report=str(out),
        notes=tuple(notes),
        identity=identity,
        work=work,
    )


def _figures(found: dict[str, Estimate]) -> tuple[Figure, ...]:
    """Those that there are: F1 has no value where no label holds and none is said to."""
    return tuple(
        Figure(name=name, value=own.value, interval=own.interval)
        for name, own in found.items()
        if np.isfinite(own.value)
    )
