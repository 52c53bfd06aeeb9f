"""Why an INT8 graph misses its floor: every place quantised alone, the worst first."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from swin_deploy.config import ExportRequest
from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import VerificationError
from swin_deploy.graph.int8.insert import InsertQdq
from swin_deploy.graph.int8.places import find_places
from swin_deploy.graph.int8.quantize import SMALLEST_SCALE
from swin_deploy.graph.int8.recipe import Placement, choose_places, recipe_for
from swin_deploy.metrics import FloatArray, sqnr_db
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.verify import Comparison

_LISTED = 5  # places that the message names; the details have all
_IMAGES = 4  # enough to tell the worst places from the rest


def explain_collapse(
    request: ExportRequest,
    kind: str,
    graph: Path,
    thresholds: dict[str, float],
    inputs: InputSet,
    worst: Comparison,
) -> VerificationError:
    """The error for an INT8 graph that is too far from FP32.

    Args:
        request: Of the run.
        kind: Of the target.
        graph: The FP32 graph.
        thresholds: That it was quantised with.
        inputs: That it fails on.
        worst: How.
    """
    ranking = rank_places(request, kind, graph, thresholds, inputs.images[:_IMAGES])
    named = ", ".join(f"{name} {db:.1f} dB" for name, db in list(ranking.items())[:_LISTED])
    other = "mse" if request.int8.method != "mse" else "minmax"
    return VerificationError(
        f"INT8 for {kind} disagrees with FP32: {worst.reason} in {worst.output} on {worst.inputs}; "
        f"nothing was published. Worst when quantised alone: {named}",
        f"more images like those of the deployment, --calibration-method {other}, or "
        f"--int8-keep {next(iter(ranking))}",
        {"places": ranking, "inputs": worst.inputs, "sqnr_db": worst.sqnr_db},
    )


def rank_places(
    request: ExportRequest,
    kind: str,
    graph: Path,
    thresholds: dict[str, float],
    images: FloatArray,
) -> dict[str, float]:
    """Place -> SQNR in dB of the worst output with it alone quantised, the worst first."""
    with OnnxRuntimeRunner(graph) as runner:
        expected = run_all(runner, images)
    options, batch = request.int8, request.batch.high
    recipe, keep = recipe_for(kind, options.also), options.keep
    names = choose_places(find_places(ir.load(graph).graph), recipe, batch, keep).names
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        alone = Path(folder) / graph.name
        for name in names:
            model = ir.load(graph)
            places = find_places(model.graph)
            alone_placed = Placement(
                tuple(gemm for gemm in places.gemms if gemm.name == name),
                tuple(attention for attention in places.attentions if attention.name == name),
            )
            InsertQdq(alone_placed, thresholds, SMALLEST_SCALE["fp32"], integer_bias=False)(model)
            ir.save(model, alone)
            with OnnxRuntimeRunner(alone) as runner:
                outputs = run_all(runner, images)
            found[name] = min(sqnr_db(expected[key], outputs[key]) for key in expected)
    return dict(sorted(found.items(), key=lambda item: item[1]))
