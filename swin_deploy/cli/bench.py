"""``swin-deploy bench``: an engine beside the eager network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from swin_deploy.cli.types import ListType, json_option, network_options, resolve_network
from swin_deploy.interrupts import import_torch


@click.command()
@click.option(
    "--engine",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="A run folder, an engine or graph in one, or an ONNX file.",
)
@click.option(
    "--batches",
    type=ListType(int, "1,8"),
    metavar="LIST",
    help="Batch sizes. Default: those that the run was exported for.",
)
@click.option("--rounds", default=10, show_default=True, help="Turns per runner and batch.")
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
    engine: Path,
    batches: tuple[int, ...] | None,
    rounds: int,
    threads: int | None,
    provider: str,
    variant: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput beside the eager PyTorch network.

    \b
    swin-deploy bench --engine artifacts/swin_t
    swin-deploy bench --engine artifacts/swin_t/engines/cpu-fp32.onnx --rounds 20
    swin-deploy bench --engine artifacts/swin_t/model.onnx --provider cuda

    Outputs are compared before anything is timed. Eager and engines take turns, so that a noisy
    machine slows all of them alike; the range is over the turns. --variant or --config name the
    network of an ONNX file that belongs to no run.
    """
    import_torch()
    from swin_deploy.bench.run import BenchRequest, bench_engine
    from swin_deploy.report.bench_tables import print_bench
    from swin_deploy.report.console import Progress, stdout

    request = BenchRequest(
        engine=engine,
        batches=batches,
        rounds=rounds,
        threads=threads,
        variant=resolve_network(variant, config),
        provider=provider,
    )
    with Progress().shown() as progress:
        report = bench_engine(request, progress.started)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_bench(report, stdout())
