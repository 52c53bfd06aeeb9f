"""One turn of one point, in a process of its own: time of a call, and memory that it takes."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.child import run_in_child
from swin_deploy.data.inputs import make_noise
from swin_deploy.networks import NetworkConfig
from swin_deploy.runners.base import Runner
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.scaling.report import Turn
from swin_deploy.scaling.request import Point

TURN_TIMEOUT_S = 3600.0
MIN_TURN_S = 0.3  # a turn has as many calls as fit; one call of few milliseconds would be noise
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # written to clear_refs: proc_pid_clear_refs(5)


def measure_onnx(point: Point, graph: Path, threads: int, log: Path) -> Turn:
    """A ``Turn`` of the exported graph on ONNX Runtime.

    Raises:
        ResourceError: The process died, of its memory for example.
    """
    return run_in_child(
        _run_onnx, log, TURN_TIMEOUT_S, point.variant.config, point.batch, graph, threads
    )


def measure_eager(point: Point, seed: int, threads: int, log: Path) -> Turn:
    """A ``Turn`` of the eager network on PyTorch.

    Raises:
        ResourceError: The process died, of its memory for example.
    """
    return run_in_child(
        _run_eager, log, TURN_TIMEOUT_S, point.variant.config, point.batch, seed, threads
    )


def _run_onnx(config: NetworkConfig, batch: int, graph: Path, threads: int) -> Turn:
    import onnxruntime  # noqa: F401  # what the library itself takes is not the network's

    before = _resident("VmRSS")
    return _clock(OnnxRuntimeRunner(graph, threads), config, batch, before)


def _run_eager(config: NetworkConfig, batch: int, seed: int, threads: int) -> Turn:
    import torch

    from swin_deploy.model.build import build_model
    from swin_deploy.runners.torch_eager import TorchRunner

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
