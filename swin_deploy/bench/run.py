"""One call from a path to a finished bench report."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from swin_deploy.batches import BatchRange
from swin_deploy.bench.measure import BenchSpec, run_bench
from swin_deploy.bench.subject import Subject, open_subject
from swin_deploy.data.inputs import make_noise_for
from swin_deploy.errors import ConfigError
from swin_deploy.files import write_json
from swin_deploy.machine import describe_machine
from swin_deploy.model.load import load_model
from swin_deploy.model.outputs import with_outputs
from swin_deploy.runners.onnxruntime import CPU
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What to measure.

    Attributes:
        engine: A run folder, a file in one, or an ONNX file.
        batches: Batch sizes; None for those that the run was exported for.
        rounds: Turns per runner and batch.
        threads: On the CPU, for every runner alike; None for one per usable core.
        variant: The network of an ONNX file that belongs to no run.
        provider: The execution provider that an ONNX file runs on, in full or short.
    """

    engine: Path
    batches: tuple[int, ...] | None = None
    rounds: int = 10
    threads: int | None = None
    variant: Variant | None = None
    provider: str = CPU

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads = {self.threads} must be at least 1")


def bench_engine(request: BenchRequest, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure engines beside the eager network and, for a run, write its ``bench.json``.

    Returns:
        The JSON object of ``bench --json``.

    Raises:
        SwinDeployError: As ``open_subject`` and ``run_bench``.
    """
    threads = request.threads or len(os.sched_getaffinity(0))
    subject = open_subject(request.engine, threads, request.variant, request.provider)
    spec = BenchSpec(batches=request.batches or _own_batches(subject), rounds=request.rounds)
    config = subject.config
    progress("building the eager network")
    torch.set_num_threads(threads)
    device = "cuda" if subject.on_gpu and torch.cuda.is_available() else "cpu"
    model = load_model(config, subject.weights, subject.seed)
    baseline = with_outputs(model, subject.outputs, config.name)
    result = run_bench(
        TorchRunner(baseline, f"eager PyTorch fp32 ({device})", device),
        subject.candidates,
        lambda count: make_noise_for(subject.images, count, config.in_channels, config.image_size),
        spec,
        progress,
        check=subject.known,
        floors_db=subject.floors_db,
        interface=subject.interface,
    )
    report = result.as_dict() | {
        "network": config.name,
        "engine": str(request.engine),
        "outputs": subject.outputs,
        "threads": threads,
        "rounds": spec.rounds,
        "machine": asdict(describe_machine()),
        "not_run": subject.not_run,
    }
    report["warnings"] += subject.notes
    if not subject.known:
        report["warnings"].append(
            f"outputs were not compared: the weights behind {request.engine} are not known"
        )
    if subject.run is not None:
        write_json(subject.run.path / "bench.json", report)
    return report


def _own_batches(subject: Subject) -> tuple[int, ...]:
    if subject.run is None:
        return (1,)
    batch = BatchRange(**subject.run.manifest.header["batch"])
    return tuple(dict.fromkeys((batch.low, batch.high)))
