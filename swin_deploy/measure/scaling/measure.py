"""The graph of every point, and one turn of it in a process of its own: time and memory."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.core.process import run_in_child
from swin_deploy.data.images import make_noise
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.cost.graph_facts import GraphCost, cost_graph
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.tensorrt import build_quietly
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.measure.scaling.report import Compiled, Point, Turn
from swin_deploy.measure.verify import Verification, compare_outputs
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model

TURN_TIMEOUT_S = 3600.0
MIN_TURN_S = 0.3  # a turn has as many calls as fit; one call of few milliseconds would be noise
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # written to clear_refs: proc_pid_clear_refs(5)


def measure_onnx(point: Point, graph: Path, threads: int, log: Path) -> Turn:
    """A ``Turn`` of the exported graph on ONNX Runtime."""
    return run_in_child(
        _run_onnx, log, TURN_TIMEOUT_S, point.variant.config, point.batch, graph, threads
    )


def measure_eager(point: Point, seed: int, threads: int, log: Path) -> Turn:
    """A ``Turn`` of the eager network on PyTorch."""
    return run_in_child(
        _run_eager, log, TURN_TIMEOUT_S, point.variant.config, point.batch, seed, threads
    )


def _run_onnx(config: NetworkConfig, batch: int, graph: Path, threads: int) -> Turn:
    import onnxruntime  # noqa: F401  # what the library itself takes is not the network's

    before = _resident("VmRSS")
    return _clock(OnnxRuntimeRunner(graph, threads), config, batch, before)


def _run_eager(config: NetworkConfig, batch: int, seed: int, threads: int) -> Turn:
    import torch

    from swin_deploy.engine.runners.torch_eager import TorchRunner
    from swin_deploy.network.model.build import build_model

    torch.set_num_threads(threads)
    before = _resident("VmRSS")
    return _clock(TorchRunner(build_model(config, seed)), config, batch, before)


def _clock(
    opened: AbstractContextManager[Runner], config: NetworkConfig, batch: int, before: int | None
) -> Turn:
    images = make_noise(batch, config.in_channels, config.image_size).images
    with opened as runner:
        loaded = _reset_peak()
        warm_s, _ = _time_call(runner, images)
        calls = max(1, round(MIN_TURN_S / warm_s))
        seconds = np.array([_time_call(runner, images) for _ in range(calls)])
        peak = None if loaded is None else _resident("VmHWM")
    time_ms, cpu_ms = (float(figure) for figure in np.median(seconds, axis=0) * 1e3)
    return Turn(
        time_ms=time_ms,
        cpu_ms=cpu_ms,
        calls=calls,
        peak_bytes=None if peak is None or before is None else peak - before,
        working_bytes=None if peak is None or loaded is None else peak - loaded,
    )


def _time_call(runner: Runner, images: Any) -> tuple[float, float]:
    """Seconds on the clock, and of the CPU."""
    start, cpu_start = time.perf_counter(), time.process_time()
    runner.run(images)
    return time.perf_counter() - start, time.process_time() - cpu_start


def _reset_peak() -> int | None:
    """Forget the high-water mark of loading; what is resident now, None if that is not allowed."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:  # no Linux, or a hardened one: the figure becomes null, and the report says so
        return None
    return _resident("VmRSS")


def _resident(field: str) -> int | None:
    """Bytes in a field of the status of this process; None where there is no such file.

    ``getrusage`` would not do: a child starts with the mark of the process that forked it.
    """
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


COMPILER = TARGETS["rtx"]
FORM = choose_form(("tensorrt", "onnxruntime"), static=True)  # as ``export`` has it by default


class Graphs:
    """Makes graphs when they are first asked for.

    Args:
        folder: Where they lie; whoever made it removes it.
        seed: Of the random weights.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def path(self, point: Point) -> Path:
        """The simplified FP32 graph, proven to compute what the eager network does.

        Raises:
            InputError: PyTorch cannot trace the network, or onnxsim cannot simplify it.
            ResourceError: onnxsim died.
            VerificationError: The graph computes something else.
        """
        final = self.folder / f"{point.name.replace(' ', '-')}.onnx"
        if final.exists():
            return final
        config = point.variant.config
        raw, log = self.folder / "raw.onnx", self.folder / "log"
        images = make_noise(point.batch, config.in_channels, config.image_size)
        model = build_model(config, self.seed)
        export_graph(freeze(model, FORM), config, _batch(point), raw)
        simplify_graph(raw, final, images.images, log, strict=True)
        raw.unlink()
        with TorchRunner(model) as eager, OnnxRuntimeRunner(final) as graph:
            expected, found = eager.run(images.images), graph.run(images.images)
        rows = compare_outputs(f"{point.name}, graph", images.name, expected, found, "fp32")
        Verification(tuple(rows), {}).require()
        return final

    def describe(self, point: Point) -> GraphCost:
        """FLOPs and bytes of the graph, node by node."""
        return cost_graph(self.path(point))

    def compile(self, point: Point) -> Compiled:
        """What TensorRT-RTX makes of the graph in FP16: kernels, and the bytes that they move."""
        half, plan = self.folder / "half.onnx", self.folder / "plan"
        convert_to_half(self.path(point), half, "fp16")
        listing, version = run_in_child(
            build_quietly,
            self.folder / "log",
            TIMEOUT_S,
            COMPILER.module,
            half,
            plan,
            _batch(point),
        )
        half.unlink()
        plan.unlink()
        if listing.problem or listing.activation_bytes is None:
            raise InputError(f"{point.name}: its kernels are not known: {listing.problem}")
        return Compiled(
            compiler=f"{COMPILER.module} {version}, fp16",
            kernels=len(listing.kernels),
            fused_attentions=listing.fused_attentions,
            compiled_bytes=listing.activation_bytes,
        )


def _batch(point: Point) -> BatchRange:
    return BatchRange(low=point.batch, high=point.batch)
