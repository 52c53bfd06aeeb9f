"""``swin-deploy evaluate``: accuracy over labelled photos."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import (
    file_option,
    json_option,
    network_options,
    print_json,
    resolve_network,
    source_option,
    worker_options,
)
from swin_deploy.cli.types import FILE, FOLDER, PATH, FiniteType
from swin_deploy.core.errors import ConfigError, caught, raise_all
from swin_deploy.core.files import require_outside
from swin_deploy.network.model import import_torch


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=PATH, metavar="ARTIFACT...")
@source_option(
    "--data",
    required=True,
    metavar="SRC",
    help="Labelled photos: class folders, or a text list of paths and labels; a .csv or .json of "
    "labels or numbers for multi-label networks and regressions.",
)
@click.option(
    "--labels",
    type=FILE,
    metavar="LIST",
    help="Photos in the folder --data with their labels, one a line, or such a .csv or .json.",
)
@file_option(
    "--class-map", help="What labels are called, by class: LOC_synset_mapping.txt, for example."
)
@click.option("--sorted-folders", is_flag=True, help="Class folders count in sorted order.")
@click.option(
    "--threshold",
    type=FiniteType(0, 1),
    metavar="P",
    help="Probability from which a label of a multi-label network is said to hold. Default: 0.5.",
)
@click.option("--eager", is_flag=True, help="The eager network of the first run too, before all.")
@click.option("--limit", type=int, metavar="N", help="A sample of at most N photos.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of that sample.")
@click.option("--batch", type=int, default=16, show_default=True, help="Images at a time.")
@worker_options
@file_option("--out", help="The report. Default: evaluate.json or scores.json in the first run.")
@click.option(
    "--flips",
    type=FOLDER,
    metavar="DIR",
    help="Draw the images that artifacts disagree on into PNG files there.",
)
@network_options
@json_option
def evaluate(
    variant: str | None, config: Path | None, flips: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure engines, graphs and the eager network on the same photos: top-1 and top-5.

    \b
        swin-deploy evaluate artifacts/swin_t --data imagenet/val
        swin-deploy evaluate artifacts/swin_t artifacts/swin_t/model.int8.onnx --data val/ --eager
        swin-deploy evaluate artifacts/swin_t --data val/ --workers 4 --flips flips/

    A run folder stands for all its engines that run here. Every photo is decoded once. Shares have
    95 % intervals; every artifact is compared with the first, image by image (McNemar's exact
    test). Of multi-label networks it is mAP and F1, and of regressions the errors, with bootstrap
    intervals. The report is the same for any number of workers; a call that was killed goes on
    where it was. --variant or --config name the network of ONNX files that belong to no run.
    """
    from swin_deploy.measure.evaluate.report import EvaluateRequest
    from swin_deploy.measure.evaluate.run import evaluate_candidates
    from swin_deploy.report.console import Progress, show
    from swin_deploy.report.evaluation_tables import draw_flips, evaluation_summary
    from swin_deploy.report.scores_tables import scores_summary

    request = EvaluateRequest(variant=resolve_network(variant, config), **options)
    apart = caught(require_outside, flips, request.data, "--flips with a folder elsewhere")
    raise_all(chain(request.missing(), apart))
    scored = request.task != "single-label"
    if scored and flips is not None:
        raise ConfigError(
            f"--flips is of classes of which one is right, and this network is {request.task}",
            "no --flips",
        )
    if request.eager:
        import_torch()
    with Progress().shown() as progress:
        report = evaluate_candidates(request, progress.started, progress.note)
        sheets = [] if flips is None else draw_flips(report, flips)
    if as_json:
        print_json(report)
        return
    show(scores_summary(report) if scored else evaluation_summary(report))
    for sheet in sheets:
        click.echo(f"drawn: {sheet}")
    if flips is not None and not sheets:
        click.echo(f"no image was classified differently: nothing is drawn in {flips}")
