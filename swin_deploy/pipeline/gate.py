"""Everything that a run made, against the eager network: the gate, and that of INT8 graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from swin_deploy.core.errors import VerificationError, present
from swin_deploy.data.images import InputSet
from swin_deploy.data.labelled import LabelledSet, read_labelled
from swin_deploy.engine.open import looks_at, open_engine, why_not_here
from swin_deploy.engine.runners.base import Runner, run_all
from swin_deploy.engine.runners.ends import BEFORE, has_ends
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.casts import as_computed
from swin_deploy.graph.int8.places import recipe_for
from swin_deploy.graph.int8.probe import list_places, quantised_plainly
from swin_deploy.measure.verify import Comparison, Verification, compare, compare_runners
from swin_deploy.measure.verify.candidates import list_graphs, open_graph
from swin_deploy.measure.verify.report import SIDES
from swin_deploy.network.interface import LOGITS, PROBABILITIES, SCORES, STAGES, Precision
from swin_deploy.network.judge import (
    FLOORS,
    FLOORS_DB,
    FloatArray,
    activated,
    int8_floor_db,
    sqnr_db,
    wilson_interval,
)
from swin_deploy.pipeline.context import ROUNDED, RunContext
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.details import EngineDetails, graph_of

if TYPE_CHECKING:
    from swin_deploy.network.model.build import Network


# Two FP32 programs that add in another order are about as far from each other as each is from
# FP64. Measured by scripts/measure_rounding.py (9 networks, 3 seeds, both forms): at most 3.3 dB
# further with weights as they are, 6.6 dB with weights doubled or logit scales at their clamp, and
# 11.5 dB with those of the smallest network tripled.
MARGIN_DB = 15.0


def allow_for_rounding(
    context: RunContext, inputs: Sequence[InputSet], comparisons: tuple[Comparison, ...]
) -> tuple[Comparison, ...]:
    """Judge FP32 comparisons that missed the floor again, by what this network can reach.

    A network with saturated attention, or of thousands of tokens, rounds so much that no other
    FP32 program agrees with it to the usual floor. Its own distance to FP64 says how much.

    Args:
        context: With the eager network.
        inputs: What was compared on.
        comparisons: Of the run.
    """
    missed = {c.inputs for c in comparisons if c.precision == "fp32" and c.below_floor}
    if not missed:
        return comparisons
    double = copy.deepcopy(context.eager).double()
    floors: dict[tuple[str, str], float] = {}
    for images in inputs:
        if images.name not in missed:
            continue
        for output, own_db in _own_rounding(context, double, images).items():
            floor = max(FLOORS["amplified"]["fp32"], min(FLOORS_DB["fp32"], own_db - MARGIN_DB))
            floors[images.name, output] = floor
            if floor < FLOORS_DB["fp32"]:
                context.note(
                    f"this network amplifies rounding: in {output} on {images.name} its own "
                    f"FP32 is {own_db:.0f} dB from FP64, so others need {floor:.0f} dB"
                )
    return tuple(
        replace(c, floor_db=floors.get((c.inputs, c.output), c.floor_db))
        if c.precision == "fp32" and c.below_floor
        else c
        for c in comparisons
    )


def _own_rounding(context: RunContext, double: Network, images: InputSet) -> dict[str, float]:
    """SQNR of eager FP32 against eager FP64, by output and landmark, in dB."""
    single = _values(context, context.eager, images.images)
    exact = _values(context, double, images.images.astype(np.float64))
    if LOGITS in exact:
        interface = context.request.interface
        for values in (exact, single):
            every = activated(values[LOGITS], interface.activation)
            if interface.probabilities:
                values[PROBABILITIES] = every
            if interface.topk is not None:
                classes = np.argsort(-exact[LOGITS], axis=1)[:, : interface.topk]
                values[SCORES] = np.take_along_axis(every, classes, axis=1)
    return {name: sqnr_db(exact[name], single[name]) for name in exact}


def _values(context: RunContext, network: Network, images: Any) -> dict[str, Any]:
    values = TorchRunner(context.as_asked(network)).run(images)
    with torch.inference_mode():
        landmarks = network.landmarks(torch.from_numpy(images))
    return values | {name: value.numpy() for name, value in landmarks.items()}


# Of what is compared, where it is not the name of the side.
TITLES = {
    "raw": "exported",
    "onnx": "simplified",
    "int8": "int8 for tensorrt",
    "int8-cpu": "int8 for onnxruntime",
}


def verify_run(context: RunContext, inputs: Sequence[InputSet]) -> Verification:
    """Compare the form, landmark by landmark, and then every file of the run, with eager.

    Args:
        context: With all files in place.
        inputs: At least one set of images.
    """
    not_run: dict[str, str] = {}
    int8_db: dict[str, float] = {}
    comparisons = compare_runners(
        TorchRunner(context.as_asked(context.eager)),
        _candidates(context, not_run, int8_db),
        inputs,
        context.request.interface,
    )
    # Accuracy may have decided on an INT8 graph, but on no engine of it.
    comparisons = tuple(
        replace(row, floor_db=int8_db.get(row.candidate, row.floor_db))
        if row.floor_db is not None
        else row
        for row in comparisons
    )
    if context.request.outputs != STAGES:  # else they are the outputs
        comparisons = _compare_landmarks(context, inputs[0]) + comparisons
    return Verification(allow_for_rounding(context, inputs, comparisons), not_run)


def _compare_landmarks(context: RunContext, inputs: InputSet) -> tuple[Comparison, ...]:
    images = torch.from_numpy(inputs.images)
    with torch.inference_mode():
        eager, frozen = context.eager.landmarks(images), context.frozen.landmarks(images)
    return tuple(
        compare(
            f"form, {name}",
            inputs.name,
            reference.numpy(),
            frozen[name].numpy(),
            "fp32",
            output=name,
        )
        for name, reference in eager.items()
    )


def _candidates(
    context: RunContext, not_run: dict[str, str], int8_db: dict[str, float]
) -> Iterator[tuple[Runner, Precision]]:
    """All runners, one after the other; says what cannot run, and the floors of INT8 by name."""
    yield TorchRunner(context.as_asked(context.frozen), "export form"), "fp32"
    folder, interface = context.folder, context.request.interface
    floors_db = folder.current.int8_floors_db()
    graphs = list_graphs(
        folder.current.outputs(), folder.file, lambda p: context.image_input(interface.io_of(p))
    )
    for side in graphs:
        name = f"onnx, {TITLES.get(side.name, side.name)}"
        deployed = has_ends(interface) and side.name != "raw"
        for before in (None, interface) if deployed else (None,):
            title = name if before is None else f"{name}{BEFORE}"
            if side.precision == "int8":
                int8_db[title] = floors_db[SIDES[side.name]]
            yield open_graph(side, folder.scratch(ROUNDED), title, before), side.precision
    for details in context.folder.current.details(EngineDetails).values():
        target, precision = details.row, details.precision
        path = context.folder.file(target.engine_name(precision))
        if (reason := why_not_here(target, details.flags)) is not None:
            not_run[f"engine {target.name}-{precision}"] = reason
            continue
        taken = context.image_input(interface.io_of(precision))
        for before in looks_at(target, interface):
            engine = open_engine(
                target,
                precision,
                path,
                image_input=taken,
                built_for=details.built_for,
                before=before,
            )
            if precision == "int8":
                int8_db[engine.name] = floors_db[graph_of(target, precision)]
            yield engine, precision


_LISTED = 5  # places that the message names; the details have all
_IMAGES = 4  # enough to tell the worst places from the rest


def explain_collapse(
    request: ExportRequest,
    kind: str,
    graph: Path,
    thresholds: dict[str, float],
    inputs: InputSet,
    reason: str,
) -> VerificationError:
    """The error for an INT8 graph that is too far from FP32.

    Args:
        request: Of the run.
        kind: Of the target.
        graph: The FP32 graph.
        thresholds: That it was quantised with.
        inputs: That it fails on.
        reason: How.
    """
    ranking = rank_places(request, kind, graph, thresholds, inputs.images[:_IMAGES])
    named = ", ".join(f"{name} {db:.1f} dB" for name, db in list(ranking.items())[:_LISTED])
    other = "mse" if request.int8.method != "mse" else "minmax"
    return VerificationError(
        f"INT8 for {kind} is too far from FP32: {reason}; nothing was published. "
        f"Worst when quantised alone: {named}",
        f"more images like those of the deployment, --calibration-method {other}, or "
        f"--int8-keep {next(iter(ranking))}",
        {"places": ranking, "inputs": inputs.name},
    )


def rank_places(
    request: ExportRequest,
    kind: str,
    graph: Path,
    thresholds: dict[str, float],
    images: FloatArray,
) -> dict[str, float]:
    """Place -> SQNR in dB of the worst output with it alone quantised, the worst first."""
    keep, how = request.int8.keep, (recipe_for(kind, request.int8.also), request.batch.high)
    with OnnxRuntimeRunner(graph) as runner:
        expected = run_all(runner, images)
    found: dict[str, float] = {}
    for name in list_places(graph, *how, keep):
        with (
            quantised_plainly(graph, thresholds, *how, keep, only=(name,)) as alone,
            OnnxRuntimeRunner(alone, simulated_int8=True) as runner,
        ):
            outputs = run_all(runner, images)
        found[name] = min(sqnr_db(expected[key], outputs[key]) for key in expected)
    return dict(sorted(found.items(), key=lambda item: item[1]))


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
    """
    recipe = recipe_for(kind, context.request.int8.also)
    candidate = as_computed(quantised, context.folder.scratch(ROUNDED))
    images = context.calibration_images(GATE_IMAGES)
    inputs = [InputSet(f"calibration x{len(images)}", images, natural=True)]
    inputs += [photos for photos in context.inputs if photos.natural and context.photos]
    rounded = OnnxRuntimeRunner(candidate, name=quantised.name, simulated_int8=recipe.simulated)
    rows = compare_runners(OnnxRuntimeRunner(full, name="FP32"), [(rounded, "int8")], inputs)
    accuracy = None
    if context.labelled is not None:
        accuracy = compare_accuracy(context, context.labelled, full, candidate, recipe.simulated)
        floor = int8_floor_db(min(row.sqnr_db for row in rows))
        rows = tuple(replace(row, floor_db=floor) for row in rows)
    worst = min(rows, key=lambda row: row.sqnr_db)
    drop = 0.0 if accuracy is None else accuracy["drop"]
    allowed = context.request.int8.allowed_drop
    if not all(rows) or drop > allowed:
        seen = next(images for images in inputs if images.name == worst.inputs)
        reason = f"{worst.reason} in {worst.output} on {worst.inputs}"
        if accuracy is not None and drop > allowed:
            view = context.request.variant.view
            some, _ = next(read_labelled(present(context.labelled), *view, GATE_IMAGES))
            seen = InputSet(f"labelled x{len(some)}", some)
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


def compare_accuracy(
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
    view, batch = context.request.variant.view, context.request.batch
    at_once = batch.high if batch.static else _AT_ONCE
    right = dict.fromkeys(("fp32", "int8"), 0)
    count = 0
    quantised = OnnxRuntimeRunner(candidate, simulated_int8=simulated)
    with OnnxRuntimeRunner(full) as exact, quantised as rounded:
        runners = {"fp32": exact, "int8": rounded}
        for images, classes in read_labelled(labelled, *view, at_once):
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
