"""Our FP32 graph and timm's own export, in turns, on the runtimes of a CPU."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fusion.naive import holding_ours
from fusion.rows import Row
from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.graph.export import export_graph, export_plainly
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.export_form import FormName, choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.judge import FloatArray, sqnr_db
from swin_deploy.network.model.build import build_model

Call = Callable[[FloatArray], FloatArray]
FLOORS = {"FP32": FLOORS_DB["fp32"], "BF16": 20.0}  # BF16 has 8 bits: that it ran, and not more
RESAMPLES = 2000
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quotient of medians and its bootstrap interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def cpu_table(row: Row, turns: int, folder: Path, form: FormName | None = None) -> Iterator[str]:
    """Markdown: the median latency of both graphs on every runtime, and their ratio.

    Args:
        row: The network and the batch.
        turns: Calls of each graph on each runtime.
        folder: Gets the graphs.
        form: Of our attentions; None for what an export for this target takes.

    Raises:
        VerificationError: A graph does not compute what eager PyTorch does.
    """
    images = make_noise(row.batches.high, row.config.in_channels, row.config.image_size).images
    form = form or choose_form({"onnxruntime"}, row.batches.static)
    graphs = write_graphs(row, images, folder, form)
    calls = {(runtime, name): call for name in graphs for runtime, call in runtimes(graphs[name])}
    require_same(row, images, calls)
    times = in_turns({key: lambda c=call: c(images) for key, call in calls.items()}, turns)
    yield "| form | network | batch | runtime | timm's, p50 ms | ours, p50 ms | ours to timm's |"
    yield "|---|---|---|---|---:|---:|---:|"
    for runtime in dict.fromkeys(runtime for runtime, _ in times):
        naive, ours = (times[runtime, name] for name in ("timm", "ours"))
        medians = [f"{np.median(found):.1f}" for found in (naive, ours)]
        cells = [form, row.label, row.batch, runtime, *medians, str(ratio(ours, naive))]
        yield f"| {' | '.join(cells)} |"


def write_graphs(row: Row, images: FloatArray, folder: Path, form: FormName) -> dict[str, Path]:
    """Both graphs in FP32, with the same weights."""
    graphs = {name: folder / f"{name}.onnx" for name in ("timm", "ours")}
    eager = build_model(row.config)
    export_plainly(holding_ours(row.config, eager), row.config, row.batches, graphs["timm"])
    raw = folder / "raw.onnx"
    export_graph(freeze(eager, form), row.config, row.batches, raw)
    simplify_graph(raw, graphs["ours"], images, folder / "log", strict=True)
    return graphs


def runtimes(graph: Path) -> Iterator[tuple[str, Call]]:
    """A graph on every runtime, each with a thread per usable core that sleeps when it is idle."""
    import openvino

    options = session_options(None)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = open_session(graph, options)
    name = session.get_inputs()[0].name
    yield "ONNX Runtime FP32", lambda images: session.run(None, {name: images})[0]
    for precision, hint in (("FP32", "f32"), ("BF16", "bf16")):
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        }
        compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
        request = compiled.create_infer_request()
        yield f"OpenVINO {precision}", lambda images, r=request: r.infer([images])[0]


def require_same(row: Row, images: FloatArray, calls: dict[tuple[str, str], Call]) -> None:
    """Check that every graph computes on every runtime what eager PyTorch does.

    Raises:
        VerificationError: One does not.
    """
    with torch.inference_mode():
        expected = build_model(row.config)(torch.from_numpy(images)).numpy()
    for (runtime, name), call in calls.items():
        found, floor = sqnr_db(expected, call(images)), FLOORS[runtime.split()[-1]]
        if found < floor:
            raise VerificationError(
                f"{name} on {runtime}: {found:.1f} dB, needs {floor:.0f} dB", "the graphs, first"
            )


def in_turns(
    calls: dict[tuple[str, str], Callable[[], object]], turns: int
) -> dict[tuple[str, str], FloatArray]:
    """Milliseconds of every call in every turn: (turns,). The order within a turn is random."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    order = random.Random(0)
    for turn in range(WARM_UP + turns):
        for key in order.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[key]()
            if turn >= WARM_UP:
                times[key].append(1e3 * (time.perf_counter() - start))
    return {key: np.array(values) for key, values in times.items()}


def ratio(candidate: FloatArray, baseline: FloatArray) -> Ratio:
    """Median over median; turns are drawn as pairs, since both share the noise of a turn."""
    turns = len(candidate)
    drawn = np.random.default_rng(0).integers(turns, size=(RESAMPLES, turns))
    medians = (np.median(times[drawn], axis=1) for times in (candidate, baseline))
    low, high = np.percentile(np.divide(*medians), (2.5, 97.5))
    return Ratio(float(np.median(candidate) / np.median(baseline)), float(low), float(high))
