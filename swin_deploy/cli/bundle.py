"""``swin-deploy bundle``: one archive with all that a device needs of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from swin_deploy.cli.types import ListType, PathType, complete_from, json_option, to_precision
from swin_deploy.engine.targets import TARGETS
from swin_deploy.precisions import PRECISIONS, Precision


@click.command()
@click.argument("run", type=PathType(path_type=Path))
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    shell_complete=complete_from(TARGETS),
    help="Of the device. See: swin-deploy targets.",
)
@click.option(
    "--out",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The archive. Default: NETWORK-TARGET.zip beside the run.",
)
@click.option(
    "--precision",
    type=ListType(to_precision, ",".join(PRECISIONS)),
    metavar="LIST",
    help="Of the graphs. Default: all that the run has for this target.",
)
@click.option(
    "--calibration",
    type=PathType(path_type=Path),
    metavar="SOURCE",
    help="Where the images lie that INT8 was calibrated on: engines are verified on some.",
)
@click.option(
    "--sign",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="KEY",
    help="Sign with this Ed25519 key, a PEM file.",
)
@click.option("--allow-random-weights", is_flag=True, help="Ship a network that predicts nothing.")
@json_option
def bundle(
    run: Path,
    target: str,
    out: Path | None,
    precision: tuple[Precision, ...] | None,
    calibration: Path | None,
    sign: Path | None,
    allow_random_weights: bool,
    as_json: bool,
) -> None:
    """Pack a run for a device: graphs, reference outputs, and a program that builds it there.

    \b
        swin-deploy bundle artifacts/swin_t --target jetson-orin --out swin_t.zip
        python3 -m zipfile -e swin_t.zip swin_t      # on the device, and in the folder swin_t:
        python3 swin.pyz build
        python3 swin.pyz predict photo.jpg

    The device needs Python 3.10, numpy, Pillow for photos, and its runtime; nothing is installed.
    The same run gives the same bytes. An archive that exists is not overwritten.
    """
    from swin_deploy.bundle.make import BundleRequest, make_bundle
    from swin_deploy.report.console import Progress, show

    request = BundleRequest(
        run=run,
        target=target,
        out=out,
        precisions=precision,
        calibration=calibration,
        sign=sign,
        allow_random=allow_random_weights,
    )
    with Progress().shown() as progress:
        made = make_bundle(request, progress.started)
        for note in made.notes:
            progress.note(note)
    if as_json:
        click.echo(json.dumps(made.as_dict(), indent=2))
        return
    signed = "signed" if made.signed else "not signed"
    show(
        [
            f"{made.path}: {made.network} for {made.target} in {', '.join(made.precisions)}, "
            f"{len(made.files)} files, {made.size_bytes / 1e6:.1f} MB, {signed}\n"
            f"sha256 {made.sha256}\n"
            f"sha256 {made.bundle_sha256} of its bundle.json, which build prints on the device",
        ]
    )
