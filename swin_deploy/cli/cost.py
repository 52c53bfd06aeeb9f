"""``swin-deploy cost``: what the compiler made of a graph."""

from __future__ import annotations

import json
from pathlib import Path

import click

from swin_deploy.cli.types import PathType, complete_from, json_option
from swin_deploy.engine.gpus import GPUS


@click.command()
@click.argument("path", type=PathType(path_type=Path), metavar="RUN|PLAN|ONNX")
@click.option(
    "--compare",
    type=PathType(path_type=Path),
    metavar="OTHER",
    help="Set another run, engine or ONNX file beside it.",
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
def cost(
    path: Path,
    compare: Path | None,
    gpu: str | None,
    blocks: bool,
    kernels: bool,
    as_json: bool,
) -> None:
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
    from swin_deploy.cost.report import CostRequest, report_cost
    from swin_deploy.report.console import Progress, show
    from swin_deploy.report.cost_tables import cost_summary

    request = CostRequest(path=path, compare=compare, gpu=gpu)
    with Progress().shown() as progress:
        report = report_cost(request, progress.started)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(cost_summary(report, blocks, kernels))
