"""The gate of an INT8 graph: agreement with FP32, or accuracy on labelled images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.data.inputs import InputSet
from swin_deploy.data.labelled import LabelledSet, read_labelled
from swin_deploy.errors import VerificationError
from swin_deploy.graph.int8.recipe import recipe_for
from swin_deploy.graph.widen import as_computed
from swin_deploy.interface import LOGITS
from swin_deploy.judge import int8_floor_db
from swin_deploy.metrics import wilson_interval
from swin_deploy.narrow import present
from swin_deploy.pipeline.collapse import explain_collapse
from swin_deploy.pipeline.context import ROUNDED, RunContext
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.verify import compare_runners

GATE_IMAGES = 32  # of the calibration that every INT8 graph is compared with FP32 on
_AT_ONCE = 16  # labelled images that a graph of a dynamic batch gets at a time


def judge(
    context: RunContext, kind: str, full: Path, quantised: Path, thresholds: dict[str, float]
) -> dict[str, Any]:
    """Let a quantised graph pass, or raise.

    With labelled images their accuracy decides, of whatever is not all noise; without, how far it
    is from FP32 on the images of the calibration and on the photos of the run.

    Args:
        context: Of the run.
        kind: Of the target.
        full: The FP32 graph.
        quantised: The INT8 graph, with the same inputs and outputs.
        thresholds: That it was quantised with.

    Returns:
        "agreement" and "accuracy", for the manifest.

    Raises:
        VerificationError: It collapsed; lists the worst of what was quantised.
    """
    recipe = recipe_for(kind, context.request.int8.also)
    candidate = as_computed(quantised, context.folder.scratch(ROUNDED))
    images = context.calibration_images(GATE_IMAGES)
    inputs = [InputSet(f"calibration x{len(images)}", images, natural=True)]
    inputs += [photos for photos in context.inputs if photos.natural and context.photos]
    rounded = OnnxRuntimeRunner(candidate, name=quantised.name, simulated_int8=recipe.simulated)
    rows = compare_runners(
        OnnxRuntimeRunner(full, name="FP32"),
        [(rounded, "int8")],
        inputs,
    )
    accuracy = None
    if context.labelled is not None:
        accuracy = measure_accuracy(context, context.labelled, full, candidate, recipe.simulated)
        floor = int8_floor_db(min(row.sqnr_db for row in rows))
        rows = tuple(replace(row, floor_db=floor) for row in rows)
    worst = min(rows, key=lambda row: row.sqnr_db)
    drop = 0.0 if accuracy is None else accuracy["drop"]
    allowed = context.request.int8.allowed_drop
    if not all(rows) or drop > allowed:
        seen = next(images for images in inputs if images.name == worst.inputs)
        reason = f"{worst.reason} in {worst.output} on {worst.inputs}"
        if accuracy is not None and drop > allowed:
            seen = _some(context, context.labelled)
            before, after = accuracy["fp32"]["top1"], accuracy["int8"]["top1"]
            reason = (
                f"top-1 falls from {before:.2f} to {after:.2f} % of {accuracy['images']} labelled "
                f"images, by {drop:.2f} points, and {allowed:g} are allowed"
            )
        raise explain_collapse(context.request, kind, full, thresholds, seen, reason)
    return {
        "agreement": {
            "inputs": worst.inputs,
            "sqnr_db": round(worst.sqnr_db, 2),
            "top1_agreement": worst.top1_agreement,
        },
        "accuracy": accuracy,
    }


def _some(context: RunContext, labelled: LabelledSet | None) -> InputSet:
    """The first of the labelled images."""
    variant = context.request.variant
    size, steps = variant.config.image_size, variant.preprocessing
    images, _ = next(read_labelled(present(labelled), size, steps, GATE_IMAGES))
    return InputSet(f"labelled x{len(images)}", images, natural=True)


def measure_accuracy(
    context: RunContext, labelled: LabelledSet, full: Path, candidate: Path, simulated: bool
) -> dict[str, Any]:
    """Top-1 of both graphs on labelled images, each with its 95 % interval, in percent.

    Args:
        context: Of the run.
        labelled: The images.
        full: The FP32 graph.
        candidate: The INT8 graph.
        simulated: As ``simulated_int8`` of ``OnnxRuntimeRunner``, of the latter.
    """
    variant, batch = context.request.variant, context.request.batch
    at_once = batch.high if batch.static else _AT_ONCE
    right = dict.fromkeys(("fp32", "int8"), 0)
    count = 0
    quantised = OnnxRuntimeRunner(candidate, simulated_int8=simulated)
    with OnnxRuntimeRunner(full) as exact, quantised as rounded:
        runners = {"fp32": exact, "int8": rounded}
        for images, classes in read_labelled(
            labelled, variant.config.image_size, variant.preprocessing, at_once
        ):
            count += len(images)
            context.advanced("accuracy", count, len(labelled.labels))
            for name, runner in runners.items():
                best = run_all(runner, images)[LOGITS].argmax(axis=1)
                right[name] += int(np.count_nonzero(best == classes))
    if not count:
        raise VerificationError("there are no labelled images to judge INT8 on", "--labelled")
    figures: dict[str, Any] = {
        "images": count,
        "drop": 100 * (right["fp32"] - right["int8"]) / count,
    }
    for name, hits in right.items():
        low, high = wilson_interval(hits, count)
        figures[name] = {"top1": 100 * hits / count, "low": 100 * low, "high": 100 * high}
    return figures
