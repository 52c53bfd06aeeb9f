"""``swin-deploy scaling``: how cost grows with the image and the batch."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.types import FolderType, ImageType, ListType, PathType, json_option
from swin_deploy.errors import caught, raise_all
from swin_deploy.pipeline.request import read_config
from swin_deploy.variants import VARIANTS, find_variant

_SIZE = ImageType()


def _size(text: str) -> Any:
    return _SIZE.convert(text, None, None)


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
    type=PathType(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="TOML file of a network of your own; repeatable.",
)
@click.option(
    "--sizes",
    type=ListType(_size, "224,448,448x672"),
    metavar="A,B",
    help="Images: sides, or HEIGHTxWIDTH. Default: seven from 224 to 896.",
)
@click.option("--batches", type=ListType(int, "1,2,4"), default="1", show_default=True)
@click.option(
    "--runtime",
    type=click.Choice(("onnxruntime", "eager")),
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
@click.option(
    "--plot",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the curves into an .svg or .png; needs the extra report.",
)
@json_option
def scaling(
    networks: tuple[str, ...] | None,
    configs: tuple[Path, ...],
    sizes: tuple[tuple[int, int], ...] | None,
    batches: tuple[int, ...],
    runtime: Any,
    rounds: int,
    threads: int | None,
    seed: int,
    compiled: bool,
    out: Path,
    plot: Path | None,
    as_json: bool,
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
    from swin_deploy.report.console import Progress, stdout
    from swin_deploy.report.scaling_plot import plot_scaling, require_plot
    from swin_deploy.report.scaling_tables import print_scaling
    from swin_deploy.scaling.request import NETWORKS, SIZES, ScalingRequest

    sizes = sizes or SIZES
    names = networks or (() if configs else NETWORKS)
    looks = [caught(find_variant, name) for name in names]
    looks += [] if plot is None else [caught(require_plot, plot)]
    raise_all(chain(*looks))
    request = ScalingRequest(
        networks=(
            *(read_config(path, sizes[0]) for path in configs),
            *map(find_variant, names),
        ),
        sizes=sizes,
        batches=batches,
        runtime=runtime,
        rounds=rounds,
        threads=threads,
        seed=seed,
        compiled=compiled,
        out=out,
    )
    from swin_deploy.scaling.run import REPORT, measure_scaling

    with Progress().shown() as progress:
        report = measure_scaling(request, progress.started, progress.note)
    if plot is not None:
        plot_scaling(report, plot)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_scaling(report, out / REPORT, stdout())
