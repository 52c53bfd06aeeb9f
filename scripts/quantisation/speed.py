"""FP32 and INT8 graphs of one network in turns, on the runtimes of this CPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fusion.cpu import in_turns, ratio
from fusion.rows import Row
from quantisation.graphs import calibrate, write_simplified
from quantisation.photos import as_inputs, find_photos, write_stock
from quantisation.runtimes import Call, on_onnxruntime, on_openvino
from swin_deploy.core.errors import EnvironmentMissingError, VerificationError
from swin_deploy.engine.here import integer_sums_saturate
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.export_form import FormName
from swin_deploy.network.judge import FloatArray, sqnr_db
from swin_deploy.network.model.build import build_model

METHOD = "percentile"
FULL = "FP32"
# Own choice of precision: BF16 where the CPU has it, for what is not quantised.
RUNTIMES = ("ONNX Runtime", "OpenVINO, FP32", "OpenVINO, own choice")


def speed_table(row: Row, turns: int, form: FormName) -> Iterator[str]:
    """Markdown: the median latency of one photo on every runtime, and what INT8 gains.

    Args:
        row: The network, at batch 1, with random weights.
        turns: Calls of each graph on each runtime.
        form: Of its attentions.

    Raises:
        VerificationError: A graph does not compute what eager PyTorch does.
        EnvironmentMissingError: On this CPU integer products as fast as they go are wrong.
    """
    if integer_sums_saturate():
        raise EnvironmentMissingError("INT8 is timed on a CPU with VNNI, and this one has none")
    seen, held, _ = find_photos()
    calibration, photo = as_inputs(row, seen), as_inputs(row, held[:1])
    eager = build_model(row.config, seed=0)
    with torch.inference_mode():
        expected = eager(torch.from_numpy(photo)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        graphs = write_graphs(row, eager, calibration, Path(folder), form)
        calls = {
            (runtime, name): call
            for name, graph in graphs.items()
            for runtime, call in zip(RUNTIMES, _calls(graph), strict=True)
        }
    for key, call in calls.items():
        require_near(key, expected, call(photo))
    before = os.getloadavg()[0]
    times = in_turns({key: lambda c=call: c(photo) for key, call in calls.items()}, turns)
    yield "| form | network | runtime | graph | p50 ms | FP32 to this (95 %) |"
    yield "|---|---|---|---|---:|---:|"
    for runtime in RUNTIMES:
        full = times[runtime, FULL]
        for name in graphs:
            found = times[runtime, name]
            gain = "" if name == FULL else str(ratio(full, found))
            cells = [form, row.label, runtime, name, f"{np.median(found):.1f}", gain]
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"{turns} turns; load of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after."


def write_graphs(
    row: Row, eager: torch.nn.Module, calibration: FloatArray, folder: Path, form: FormName
) -> dict[str, Path]:
    """The FP32 graph, the INT8 graph for CPUs, that with its biases in FP32, and the stock one."""
    full = folder / "full.onnx"
    write_simplified(eager, row.config, form, calibration, full)
    found = calibrate(full, "onnxruntime", calibration)
    thresholds = {name: s.threshold(METHOD) for name, s in found.statistics.items()}
    graphs = {FULL: full}
    recipe = RECIPES["onnxruntime"]
    for name, one in (
        ("INT8 for CPUs", recipe),
        ("the same, biases in FP32", replace(recipe, integer_bias=False)),
    ):
        graphs[name] = folder / f"{one.integer_bias}.onnx"
        quantize_graph(full, graphs[name], thresholds, one, row.batches.high)
    graphs["`quantize_static` of timm's export"] = stock = folder / "stock.onnx"
    write_stock(row, eager, calibration, stock)
    return graphs


def require_near(key: tuple[str, str], expected: FloatArray, logits: FloatArray) -> None:
    """Check that a graph computes on a runtime what eager PyTorch does, to INT8's floor.

    Raises:
        VerificationError: It does not.
    """
    found, floor = sqnr_db(expected, logits), FLOORS_DB["int8"]
    if found < floor:
        raise VerificationError(
            f"{key[1]} on {key[0]}: {found:.1f} dB, needs {floor:.0f} dB", "the graphs, first"
        )


def _calls(graph: Path) -> Iterator[Call]:
    yield on_onnxruntime(graph, spinning=False)
    yield on_openvino(graph, "f32")
    yield on_openvino(graph)
