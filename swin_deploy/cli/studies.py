"""``swin-deploy sensitivity`` and ``scaling``: which places suffer, and how cost grows."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import (
    file_option,
    int8_also_option,
    json_option,
    kind_option,
    source_option,
    tell,
    worker_options,
)
from swin_deploy.cli.types import PATH, REAL_FILE, FiniteType, FolderType, ImageType, ListType
from swin_deploy.core.errors import caught, raise_all
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.network.catalogue import VARIANTS, find_variant
from swin_deploy.pipeline.request import read_config


@click.command()
@click.argument("run", type=PATH, metavar="RUN")
@source_option(
    "--calibration",
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
@source_option(
    "--images", metavar="SRC", help="Images to measure on. Default: those of the calibration."
)
@source_option(
    "--labelled",
    metavar="SRC",
    help="Labelled photos to measure on: a folder of class folders, or a text list with labels.",
)
@click.option(
    "--sorted-folders",
    is_flag=True,
    help="Class folders are classes 0, 1, ... in sorted order, whatever they are called.",
)
@kind_option(help="Whose places.")
@int8_also_option("also", help="The patch embedding or the head too; repeatable.")
@click.option(
    "--max-drop",
    type=FiniteType(),
    metavar="P",
    help="Find the fewest places to leave in FP16 for at most P points of top-1 lost.",
)
@click.option(
    "--min-sqnr",
    "min_sqnr_db",
    type=FiniteType(),
    metavar="DB",
    help="The same without labels: for DB of signal to noise on the worst image.",
)
@worker_options
@file_option("--out", help="The report. Default: RUN/sensitivity.json.")
@file_option("--plot", help="Draw it into an .svg or .png; needs the extra report.")
@json_option
def sensitivity(plot: Path | None, as_json: bool, **options: Any) -> None:
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
    from swin_deploy.measure.sensitivity.report import SensitivityRequest
    from swin_deploy.report.console import Progress
    from swin_deploy.report.figures import require_plot
    from swin_deploy.report.plots import plot_sensitivity

    request = SensitivityRequest(**options)
    raise_all(chain(request.missing(), () if plot is None else caught(require_plot, plot)))
    from swin_deploy.measure.sensitivity.run import measure_sensitivity
    from swin_deploy.report.measured_tables import sensitivity_summary

    with Progress().shown() as progress:
        report = measure_sensitivity(request, progress.started, progress.note)
    if plot is not None:
        plot_sensitivity(report, plot)
    tell(as_json, report, sensitivity_summary(report, request.report))


_SIZE = ImageType()


@click.command()
@click.option(
    "--networks",
    type=ListType(str, "swin_t,vit_s_16", VARIANTS),
    metavar="A,B",
    help="Variants by name. Default: swin_t,vit_s_16, or those of --config alone.",
)
@click.option(
    "--config",
    "configs",
    type=REAL_FILE,
    multiple=True,
    metavar="FILE",
    help="TOML file of a network of your own; repeatable.",
)
@click.option(
    "--sizes",
    type=ListType(lambda text: _SIZE.convert(text, None, None), "224,448,448x672"),
    metavar="A,B",
    help="Images: sides, or HEIGHTxWIDTH. Default: seven from 224 to 896.",
)
@click.option("--batches", type=ListType(int, "1,2,4"), default="1", show_default=True)
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "eager"]),
    default="onnxruntime",
    show_default=True,
    help="What is timed: the exported graph, or the network in PyTorch.",
)
@click.option("--rounds", type=int, default=5, show_default=True, help="Turns of every point.")
@click.option("--threads", type=int, metavar="N", help="Default: one per usable core.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random weights.")
@click.option(
    "--compiled", is_flag=True, help="Also the bytes of what TensorRT-RTX compiles, in FP16."
)
@click.option(
    "--out",
    type=FolderType(),
    default="artifacts/scaling",
    show_default=True,
    help="Folder that gets scaling.json.",
)
@file_option("--plot", help="Draw the curves into an .svg or .png; needs the extra report.")
@json_option
def scaling(
    networks: tuple[str, ...] | None,
    configs: tuple[Path, ...],
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how cost grows with the image: a Swin beside a Vision Transformer.

    \b
        swin-deploy scaling --plot scaling.svg
        swin-deploy scaling --networks swin_s,vit_b_16 --sizes 224,448,672 --batches 1,2,4
        swin-deploy scaling --config mine.toml --networks vit_t_16 --sizes 64,128,256 --rounds 2

    FLOPs and bytes of the exported graph, time and memory of it on this machine, and the exponent
    of each in the image's area: 1 is linear, 2 is quadratic. Weights are random, no cost depends
    on them. Every turn is a process of its own; a run that was killed goes on where it was.
    """
    from swin_deploy.measure.scaling.report import NETWORKS, SIZES, ScalingRequest
    from swin_deploy.report.console import Progress
    from swin_deploy.report.figures import require_plot
    from swin_deploy.report.measured_tables import scaling_summary
    from swin_deploy.report.plots import plot_scaling

    options["sizes"] = options["sizes"] or SIZES
    names = networks or (() if configs else NETWORKS)
    looks = [caught(find_variant, name) for name in names]
    looks += [] if plot is None else [caught(require_plot, plot)]
    raise_all(chain(*looks))
    own = (read_config(path, options["sizes"][0]) for path in configs)
    request = ScalingRequest(networks=(*own, *map(find_variant, names)), **options)
    from swin_deploy.measure.scaling.run import REPORT, measure_scaling

    with Progress().shown() as progress:
        report = measure_scaling(request, progress.started, progress.note)
    if plot is not None:
        plot_scaling(report, plot)
    tell(as_json, report, scaling_summary(report, request.out / REPORT))
