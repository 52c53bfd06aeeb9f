"""``swin-deploy sensitivity``: which places of a network suffer from INT8."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Literal

import click

from swin_deploy.cli.types import FiniteType, PathType, json_option, worker_options
from swin_deploy.errors import caught, raise_all
from swin_deploy.graph.methods import CALIBRATION_METHODS, CalibrationMethod


@click.command()
@click.argument("run", type=PathType(path_type=Path), metavar="RUN")
@click.option(
    "--calibration",
    type=PathType(path_type=Path),
    required=True,
    metavar="SRC",
    help="Images to take the ranges from: a folder, a text list, an .npy or .npz.",
)
@click.option("--count", type=int, metavar="N", help="At most so many of them. Default: all.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of their sample.")
@click.option(
    "--method",
    type=click.Choice(CALIBRATION_METHODS),
    default="percentile",
    show_default=True,
    help="How a range becomes a threshold.",
)
@click.option(
    "--images",
    type=PathType(path_type=Path),
    metavar="SRC",
    help="Images to measure on. Default: those of the calibration.",
)
@click.option(
    "--labelled",
    type=PathType(path_type=Path),
    metavar="SRC",
    help="Labelled photos to measure on: a folder of class folders, or a text list with labels.",
)
@click.option(
    "--sorted-folders",
    is_flag=True,
    help="Class folders are classes 0, 1, ... in sorted order, whatever they are called.",
)
@click.option(
    "--kind",
    type=click.Choice(("tensorrt", "onnxruntime")),
    default="tensorrt",
    show_default=True,
    help="Whose places.",
)
@click.option(
    "--int8-also",
    type=click.Choice(["embed", "head"]),
    multiple=True,
    help="The patch embedding or the head too; repeatable.",
)
@click.option(
    "--max-drop",
    type=FiniteType(),
    metavar="P",
    help="Find the fewest places to leave in FP16 for at most P points of top-1 lost.",
)
@click.option(
    "--min-sqnr",
    type=FiniteType(),
    metavar="DB",
    help="The same without labels: for DB of signal to noise on the worst image.",
)
@worker_options
@click.option(
    "--out",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The report. Default: RUN/sensitivity.json.",
)
@click.option(
    "--plot",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw it into an .svg or .png; needs the extra report.",
)
@json_option
def sensitivity(
    run: Path,
    calibration: Path,
    count: int | None,
    seed: int,
    method: CalibrationMethod,
    images: Path | None,
    labelled: Path | None,
    sorted_folders: bool,
    kind: str,
    int8_also: tuple[Literal["embed", "head"], ...],
    max_drop: float | None,
    min_sqnr: float | None,
    threads: int,
    workers: int | None,
    ray: str | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure what every place loses in INT8, and which to leave in FP16.

    \b
        swin-deploy sensitivity artifacts/swin_t --calibration photos/
        swin-deploy sensitivity artifacts/swin_t --calibration train/ --labelled val/ --max-drop 0.5
        swin-deploy sensitivity artifacts/swin_t --calibration photos/ --min-sqnr 20 --workers 4

    A place is a matrix product with a weight, or an attention. Each is quantised alone and its
    logits are compared with FP32, on ONNX Runtime with FP32 around it: the noise of quantisation,
    and no other. The report is the same for any number of workers; a run that was killed goes on
    where it was. The names that --max-drop and
    --min-sqnr find go to export --int8-keep.
    """
    from swin_deploy.report.console import Progress, stdout
    from swin_deploy.report.sensitivity_plot import plot_sensitivity, require_plot
    from swin_deploy.sensitivity.request import SensitivityRequest

    request = SensitivityRequest(
        run=run,
        calibration=calibration,
        count=count,
        seed=seed,
        method=method,
        images=images,
        labelled=labelled,
        sorted_folders=sorted_folders,
        kind=kind,
        also=int8_also,
        max_drop=max_drop,
        min_sqnr_db=min_sqnr,
        threads=threads,
        workers=workers,
        ray=ray,
        out=out,
    )
    raise_all(chain(request.missing(), () if plot is None else caught(require_plot, plot)))
    from swin_deploy.report.sensitivity_tables import print_sensitivity
    from swin_deploy.sensitivity.run import measure_sensitivity

    with Progress().shown() as progress:
        report = measure_sensitivity(request, progress.started, progress.note)
    if plot is not None:
        plot_sensitivity(report, plot)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_sensitivity(report, request.report, stdout())
