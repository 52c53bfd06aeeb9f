"""``swin-deploy predict``: the classes of photos, by the engine of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from swin_deploy.cli.types import PathType
from swin_deploy.precisions import PRECISIONS


@click.command()
@click.argument("bundle", type=PathType(path_type=Path))
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="K")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="Of the output.",
)
@click.option(
    "--annotate",
    type=PathType(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each photo there with its classes below it.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the engine.")
@click.option(
    "--verify-key",
    type=PathType(path_type=Path, dir_okay=False),
    metavar="PUB",
    help="Ask that the owner of this Ed25519 key, a PEM file, signed the bundle.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of an inference.")
def predict(
    bundle: Path,
    photos: tuple[str, ...],
    top: int,
    form: str,
    annotate: Path | None,
    precision: str | None,
    verify_key: Path | None,
    threads: int | None,
) -> None:
    """Classify photos with an engine that was built from a bundle.

    \b
        swin-deploy predict swin_t photo.jpg folder
        find . -name '*.jpg' | swin-deploy predict swin_t - --format csv

    BUNDLE is the folder that the archive was unpacked to and built in. A PHOTO is a file, a folder
    with all photos in and below it, or - for a list of paths on standard input. Photos that cannot
    be read are left out and named; more than 5 % of them are an error, after the rest was printed.
    """
    from swin_deploy.runtime.engine import SwinEngine
    from swin_deploy.runtime.formats import LINE_FORMATS
    from swin_deploy.runtime.report import find_work, report_photos

    found = find_work(bundle, photos, annotate)
    with SwinEngine.load(bundle, precision, verify_key=verify_key, threads=threads) as engine:
        report_photos(engine, found, top, LINE_FORMATS[LINE_FORMATS.index(form)], annotate)
