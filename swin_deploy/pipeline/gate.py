"""Everything that a run made, against the eager network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from swin_deploy.data.inputs import InputSet
from swin_deploy.engine.open import open_engine, why_not_here
from swin_deploy.graph.int8.recipe import RECIPES
from swin_deploy.graph.structure import require_converted
from swin_deploy.graph.widen import round_every_result
from swin_deploy.interface import LOGITS
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.rounding import allow_for_rounding
from swin_deploy.precisions import HALF_PRECISIONS, Precision
from swin_deploy.run.details import EngineDetails
from swin_deploy.run.names import GRAPHS, INT8_GRAPHS, RAW, SIMPLE
from swin_deploy.runners.base import Runner
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.verify import (
    FLOORS_DB,
    Comparison,
    Verification,
    compare,
    compare_runners,
    without_floor,
)


def verify_run(context: RunContext, inputs: Sequence[InputSet]) -> Verification:
    """Compare the form, landmark by landmark, and then every file of the run, with eager.

    Args:
        context: With all files in place.
        inputs: At least one set of images.
    """
    not_run: dict[str, str] = {}
    comparisons = compare_runners(
        TorchRunner(context.as_asked(context.eager)),
        _candidates(context, not_run),
        inputs,
        context.request.interface,
    )
    if context.labelled is not None:  # their accuracy has decided on INT8
        comparisons = tuple(
            without_floor(row) if row.floor_db == FLOORS_DB["int8"] else row for row in comparisons
        )
    if context.request.outputs == LOGITS:  # else the stages are the outputs
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


def _candidates(context: RunContext, not_run: dict[str, str]) -> Iterator[tuple[Runner, Precision]]:
    yield TorchRunner(context.as_asked(context.frozen), "export form"), "fp32"
    yield OnnxRuntimeRunner(context.folder.file(RAW), name="onnx, exported"), "fp32"
    present, io = context.folder.current.outputs(), context.request.interface.io_of
    graphs: list[tuple[str, Precision, str]] = [
        (name, precision, "onnx, simplified" if precision == "fp32" else f"onnx, {precision}")
        for precision, name in GRAPHS.items()
    ]
    graphs += [(name, "int8", f"onnx, int8 for {kind}") for kind, name in INT8_GRAPHS.items()]
    there = {name for kind, name in INT8_GRAPHS.items() if RECIPES[kind].simulated}
    for name, precision, label in graphs:
        if name in present:
            path, taken = _runnable(context, name), context.image_input(io(precision))
            yield (
                OnnxRuntimeRunner(path, None, label, taken, simulated_int8=name in there),
                precision,
            )
    for details in context.folder.current.details(EngineDetails).values():
        target, precision = details.row, details.precision
        path = context.folder.file(target.engine_name(precision))
        if (reason := why_not_here(target, details.flags)) is not None:
            not_run[f"engine {target.name}-{precision}"] = reason
            continue
        taken = context.image_input(io(precision))
        yield (
            open_engine(target, precision, path, image_input=taken, built_for=details.built_for),
            precision,
        )


def _runnable(context: RunContext, name: str) -> Path:
    """A graph of the run as ONNX Runtime computes it with every result rounded to its type."""
    graph = context.folder.file(name)
    if name in (SIMPLE, INT8_GRAPHS["onnxruntime"]):
        return graph
    rounding = context.folder.scratch(f"{name.removesuffix('.onnx')}.rounding.onnx")
    round_every_result(graph, rounding)
    return rounding


def require_conversions(context: RunContext) -> list[Precision]:
    """Check that each converted graph is the FP32 graph, rounded; returns which precisions.

    The floors of these leave room for mistakes as small as their rounding; this leaves none.

    Raises:
        VerificationError: One is something else.
    """
    folder = context.folder
    present, full = folder.current.outputs(), folder.file(SIMPLE)
    halves = [precision for precision in HALF_PRECISIONS if GRAPHS[precision] in present]
    for precision in halves:
        require_converted(full, folder.file(GRAPHS[precision]), precision)
    kinds = [kind for kind, name in INT8_GRAPHS.items() if name in present]
    for kind in kinds:
        around = RECIPES[kind].surrounding
        graph = folder.file(INT8_GRAPHS[kind])
        require_converted(full, graph, None if around == "fp32" else around, quantised=True)
    quantised: list[Precision] = ["int8"] if kinds else []
    return [*halves, *quantised]
