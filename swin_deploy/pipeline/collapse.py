"""Why an INT8 graph misses its floor: every place quantised alone, the worst first."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import VerificationError
from swin_deploy.graph.int8.places import find_places
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.graph.int8.recipe import choose_places, recipe_for
from swin_deploy.metrics import FloatArray, sqnr_db
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

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
    options, batch = request.int8, request.batch.high
    recipe = replace(recipe_for(kind, options.also), surrounding="fp32", integer_bias=False)
    names = choose_places(find_places(ir.load(graph).graph), recipe, batch, options.keep).names
    with OnnxRuntimeRunner(graph) as runner:
        expected = run_all(runner, images)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        alone = Path(folder) / graph.name
        for name in names:
            quantize_graph(graph, alone, thresholds, recipe, batch, options.keep, only=(name,))
            with OnnxRuntimeRunner(alone, simulated_int8=True) as runner:
                outputs = run_all(runner, images)
            found[name] = min(sqnr_db(expected[key], outputs[key]) for key in expected)
    return dict(sorted(found.items(), key=lambda item: item[1]))
