"""``swin-deploy bench``: an engine beside the eager network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import json_option, network_options, resolve_network, tell
from swin_deploy.cli.types import PATH, FiniteType, ListType, NamesType
from swin_deploy.core.errors import present
from swin_deploy.measure.bench import BASELINES


@click.command()
@click.argument("path", type=PATH, metavar="[PATH]", required=False)
@click.option(
    "--engine",
    type=PATH,
    metavar="PATH",
    help="The same: a run folder, an engine or graph in one, or an ONNX file.",
)
@click.option(
    "--batches",
    type=ListType(int, "1,8"),
    metavar="LIST",
    help="Batch sizes. Default: those that the run was exported for.",
)
@click.option("--rounds", default=20, show_default=True, help="Turns per runner and batch.")
@click.option(
    "--baselines",
    type=NamesType(BASELINES, "all", BASELINES),
    default="eager",
    show_default=True,
    metavar="LIST",
    help=f"What to measure against, of {', '.join(BASELINES)}; or all. half is BF16 on a CPU and "
    "FP16 on a GPU, naive the plain export of the eager network on the engines' own runtimes.",
)
@click.option(
    "--fail-below",
    type=FiniteType(min=0, min_open=True),
    metavar="X",
    help="Exit with 5 unless every engine is surely X times as fast as eager FP32.",
)
@click.option("--threads", type=int, help="CPU threads. Default: one per usable core.")
@click.option(
    "--provider",
    default="CPU",
    show_default=True,
    metavar="NAME",
    help="ONNX Runtime's execution provider for an ONNX file: cuda, tensorrt, openvino ...",
)
@network_options
@json_option
def bench(
    path: Path | None,
    engine: Path | None,
    variant: str | None,
    config: Path | None,
    fail_below: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure latency and throughput beside the eager PyTorch network.

    \b
        swin-deploy bench --engine artifacts/swin_t
        swin-deploy bench --engine artifacts/swin_t --baselines all --batches 1,8
        swin-deploy bench --engine artifacts/swin_t/engines/cpu-fp32.onnx --fail-below 1.0
        swin-deploy bench --engine artifacts/swin_t/model.onnx --provider cuda

    Outputs are compared before anything is timed. All take turns, so that a noisy machine slows
    them alike, and the speed-up is that of the median turn, with its interval of 95 % (bootstrap
    over the turns). --variant or --config name the network of an ONNX file that belongs to no run.
    """
    if (path is None) == (engine is None):
        raise click.UsageError("name one run, engine or ONNX file, as PATH or with --engine")
    from swin_deploy.measure.bench.run import BenchRequest, bench_engine, require_speed
    from swin_deploy.report.console import Progress
    from swin_deploy.report.measured_tables import bench_summary

    options["variant"] = resolve_network(variant, config)
    request = BenchRequest(engine=present(engine or path), **options)
    with Progress().shown() as progress:
        report = bench_engine(request, progress.started)
    tell(as_json, report, bench_summary(report))
    if fail_below is not None:
        require_speed(report, fail_below)
