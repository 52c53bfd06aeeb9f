"""The command line of ``scripts/gpu-check``: the parts in their order."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from gpu_check.probe import PROBES
from gpu_check.report import Report
from swin_deploy import __version__
from swin_deploy.batches import BatchRange
from swin_deploy.machine import describe_machine

FORMS = ("ours", "naive")  # naive: timm's network, exported by PyTorch and nothing else
PRECISIONS = ("fp32", "fp16")


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
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
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
    with tempfile.TemporaryDirectory() as folder:
        check(report, options, Path(folder))
    for line in report.summary():
        print(line)
    return report.exit_code


def check(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """All parts that need a network; ``report`` gets them."""
    load, max_batch = partial(_import_parts, options.network), options.max_batch
    prepared = report.run("graph", "libraries of an export", load)
    if prepared is None:
        return  # without a graph there is nothing to build, verify or time
    config, graphs, candidates, speed = prepared
    make = partial(graphs.make_reference, config, max_batch)
    reference = report.run("graph", "reference", make)
    if reference is None:
        return
    written = []
    for form, precision, batch in _wanted(options):
        name = f"{form} {precision} batch {batch}"
        write = partial(graphs.write_graph, reference, config, form, precision, batch, folder)
        if (graph := report.run("graph", name, write)) is not None:
            written.append(graph)
    fast = list(candidates.verified(report, reference, written, folder))
    kernels = {c.runner.name: c.kernels for c in fast}
    for batch in dict.fromkeys((1, max_batch)):
        those = [(c.runner, c.precision) for c in fast if c.takes(batch) and c.on_gpu]
        work = partial(speed.time_all, those, reference.images, batch, options.rounds, kernels)
        report.run("bench", f"batch {batch}", work)
        details = report.parts[-1].details
        for line in speed.bench_lines(details) if "measurements" in details else ():
            print(line)


def _wanted(options: argparse.Namespace) -> Iterator[tuple[str, Any, BatchRange]]:
    for high in dict.fromkeys((1, options.max_batch)):
        for precision in options.precisions:
            for form in options.forms:
                yield form, precision, BatchRange(low=1, high=high)


def _import_parts(network: str) -> tuple[str, dict[str, Any], Any]:
    """Everything that is not device-grade, so that its absence is a line of the report."""
    from gpu_check import candidates, graphs, speed
    from swin_deploy.pipeline.request import read_config
    from swin_deploy.variants import find_variant

    path = Path(network)
    variant = read_config(path) if path.suffix == ".toml" else find_variant(network)
    return "all here", {}, (variant.config, graphs, candidates, speed)
