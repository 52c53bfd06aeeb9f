"""``swin-deploy cost`` and ``report``: what was made of a graph, and one page about runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import json_option, print_json, tell
from swin_deploy.cli.types import PATH, FolderType, complete_from
from swin_deploy.engine.cost.gpus import GPUS


@click.command()
@click.argument("path", type=PATH, metavar="RUN|PLAN|ONNX")
@click.option(
    "--compare", type=PATH, metavar="OTHER", help="Set another run, engine or ONNX file beside it."
)
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=complete_from(GPUS),
    help="Estimate times from a GPU's published peak rates.",
)
@click.option("--blocks", is_flag=True, help="Also what every block costs.")
@click.option("--kernels", is_flag=True, help="Also every kernel; with --compare, their diff.")
@json_option
def cost(blocks: bool, kernels: bool, as_json: bool, **options: Any) -> None:
    """Say what the compiler made of a graph: kernels, bytes and FLOPs, and what each is for.

    \b
        swin-deploy cost artifacts/swin_t
        swin-deploy cost artifacts/swin_t --gpu a100 --blocks
        swin-deploy cost artifacts/swin_t/engines/rtx-fp16.plan --kernels
        swin-deploy cost artifacts/swin_t --compare exported_elsewhere.onnx

    Needs no GPU. A run keeps the listing of its engines' kernels; an ONNX file is compiled with
    TensorRT-RTX, and nothing is left on the disk. Bytes are those that the kernels read and write,
    caches aside. --gpu gives a lower bound, not a measurement.
    """
    from swin_deploy.measure.cost import CostRequest, report_cost
    from swin_deploy.report.console import Progress
    from swin_deploy.report.cost_tables import cost_summary

    request = CostRequest(**options)
    with Progress().shown() as progress:
        report = report_cost(request, progress.started)
    tell(as_json, report, cost_summary(report, blocks, kernels))


@click.command()
@click.argument("runs", type=PATH, metavar="RUN|JSON...", nargs=-1, required=True)
@click.option(
    "--out",
    type=FolderType(),
    metavar="DIR",
    help="Folder of the report. Default: that of a single run, or report for several.",
)
@json_option
def report(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write one page about runs: what was made, whether it agrees, how fast it is.

    \b
        swin-deploy report artifacts/swin_t
        swin-deploy report artifacts/swin_t artifacts/swin_s --out both
        swin-deploy report artifacts/swin_t jetson/bench.json h100/bench.json --out machines

    report.html needs no network and nothing beside it; report.md and report.json say the same. It
    shows what earlier commands left in the run, and says which command makes what is missing. A
    .json file of another machine is a column beside the runs. Needs the extra report.
    """
    from swin_deploy.report.console import Progress
    from swin_deploy.report.page import write_report

    with Progress().shown() as progress:
        written = write_report(runs, out, progress.started)
    if as_json:
        names = ("html", "markdown", "json")
        print_json(dict(zip(names, map(str, written), strict=True)))
    else:
        for path in written:
            click.echo(path)
