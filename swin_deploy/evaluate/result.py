"""Results of shards -> the report: counts, comparisons, and the images that flipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from swin_deploy.data.labelled import LabelledSet
from swin_deploy.evaluate.field import Field
from swin_deploy.evaluate.journal import KIND
from swin_deploy.evaluate.shards import BEST, ShardResult
from swin_deploy.evaluate.statistics import (
    Guesses,
    describe_accuracy,
    describe_pair,
    list_flips,
)
from swin_deploy.files import digest

SCHEMA_VERSION = 1


def make_report(
    field: Field,
    labelled: LabelledSet,
    results: Sequence[ShardResult],
    remember: Callable[[str], None],
) -> dict[str, Any]:
    """All of a report that does not depend on who did the work.

    Args:
        field: What was evaluated.
        labelled: On what.
        results: Of all shards, in order.
        remember: Hears what the user has to know.
    """
    positions = [position for result in results for position in result.positions]
    left_out = [
        {"image": labelled.sample.images[position].name, "problem": why}
        for result in results
        for position, why in result.left_out
    ]
    if left_out:
        remember(f"{len(left_out)} photos cannot be read, and are left out")
    names = [labelled.sample.images[position].name for position in positions]
    labels = np.array([labelled.labels[position] for position in positions], dtype=np.int64)
    guesses = [
        np.array([row for result in results for row in result.classes[index]], dtype=np.int64)
        for index in range(len(field.artifacts))
    ]
    rows = [
        {
            "name": artifact.name,
            "path": str(artifact.path),
            "precision": artifact.precision,
            "sha256": artifact.hashes,
        }
        | _accuracy(found, labels, field.classes)
        for artifact, found in zip(field.artifacts, guesses, strict=True)
    ]
    for row in rows:
        if row["not_finite"]:
            remember(f"{row['name']} gives no finite outputs for {row['not_finite']} images")
    first = guesses[0][:, 0]
    pairs = [
        {"a": rows[0]["name"], "b": row["name"]}
        | describe_pair(first, found[:, 0], labels)
        | {"flips": list_flips(first, found[:, 0], labels, names)}
        for row, found in zip(rows[1:], guesses[1:], strict=True)
    ]
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "data": str(labelled.sample.source),
        "images": len(positions),
        "found": labelled.sample.found,
        "classes": field.classes,
        "class_names": list(field.class_names),
        "left_out": left_out,
        "artifacts": rows,
        "pairs": pairs,
        "not_run": field.not_run,
        "predictions_sha256": digest([positions, [found.tolist() for found in guesses]]),
    }


def _accuracy(guesses: Guesses, labels: Guesses, classes: int) -> dict[str, Any]:
    """Top-5 means nothing of an artifact that gives fewer, unless there are no more."""
    found = describe_accuracy(guesses, labels)
    return found if guesses.shape[1] >= min(BEST, classes) else found | {"top5": None}
