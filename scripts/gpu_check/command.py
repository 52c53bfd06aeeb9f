"""The command line of ``scripts/gpu-check``: the parts in their order."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gpu_check.commands import bench, cost, export, verify
from gpu_check.probe import PROBES, require_gpu, require_libraries
from gpu_check.report import Report
from swin_deploy import __version__
from swin_deploy.engine.here import describe_machine

CPU = "cpu"  # whose run vouches for the graphs: a wrong one is told from a wrong engine
TARGETS = (CPU, "rtx", "tensorrt")
PROVIDERS = ("cuda", "tensorrt")  # of ONNX Runtime
GRAPHS = ("model.onnx", "model.fp16.onnx")


def main(arguments: list[str] | None = None) -> int:
    """Check this machine; the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check",
        description="Build, verify and time Swin on the GPU of this machine, without a network.",
        epilog="Exit codes: 0 what could run passed, 5 something failed, 4 nothing could run.",
    )
    parser.add_argument("network", nargs="?", default="swin_t", help="a variant or a TOML file")
    parser.add_argument("--max-batch", type=int, default=8, help="verify 1 to this (default 8)")
    parser.add_argument("--rounds", type=int, default=10, help="turns per runner (default 10)")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    options = parser.parse_args(arguments)
    # NVIDIA's libraries compute FP32 in TF32, of 10 bits, unless this is set before they start: the
    # floor of FP32 would mean nothing.
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    header = {
        "swin_deploy": __version__,
        "network": options.network,
        "max_batch": options.max_batch,
        "machine": asdict(describe_machine()),
    }
    report = Report(options.out, header)
    for name, probe in PROBES.items():
        report.run("here", name, probe)
    if report.run("here", "what the commands import", require_libraries):
        with tempfile.TemporaryDirectory() as folder:
            check(report, options, Path(folder))
    for line in report.summary():
        print(line)
    return report.exit_code


def check(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """All parts that need a network, a run for each target and batch; ``report`` gets them.

    Each target has runs of its own, so that one whose engine is wrong hides nothing of the others.
    """
    for batch in _batches(options.max_batch):
        for target in options.targets:
            name, run = f"{target}, batch {batch}", folder / f"{target}-{batch.replace(':', '-')}"
            work = partial(export, options.network, target, batch, run)
            if not report.run("build", name, work):
                continue
            if target != CPU:
                report.run("cost", name, partial(cost, run))
            report.run("verify", name, partial(verify, run))
            for label, path, extra in _timed(target, run):
                work = partial(bench, path, options.rounds, extra, require_gpu)
                report.run("bench", f"{name}{label}", work)


def _batches(high: int) -> Iterator[str]:
    yield "1"
    if high > 1:
        yield f"1:{high}"


def _timed(target: str, run: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """What of a run is timed: what to call it, the file or folder, and more options."""
    if target != CPU:
        yield "", run, ("--baselines", "eager,eager-half,naive")
        return
    for provider in PROVIDERS:
        for graph in GRAPHS:
            yield f", {graph} on {provider}", run / graph, ("--provider", provider)
