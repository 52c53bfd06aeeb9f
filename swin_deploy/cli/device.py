"""``swin-deploy bundle`` and ``predict``: a run for a device, and what it does there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import file_option, json_option, source_option, tell
from swin_deploy.cli.types import FILE, FOLDER, PATH, FiniteType, NamesType, complete_from
from swin_deploy.engine.targets import TARGETS
from swin_deploy.network.interface import PRECISIONS


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    shell_complete=complete_from(TARGETS),
    help="Of the device. See: swin-deploy targets.",
)
@file_option("--out", help="The archive. Default: NETWORK-TARGET.zip beside the run.")
@click.option(
    "--precision",
    "precisions",
    type=NamesType(PRECISIONS),
    metavar="LIST",
    help="Of the graphs. Default: all that the run has for this target.",
)
@source_option(
    "--calibration",
    help="Where the images lie that INT8 was calibrated on: engines are verified on some.",
)
@click.option("--sign", type=FILE, metavar="KEY", help="Sign with this Ed25519 key, a PEM file.")
@click.option(
    "--allow-random-weights",
    "allow_random",
    is_flag=True,
    help="Ship a network that predicts nothing.",
)
@json_option
def bundle(as_json: bool, **options: Any) -> None:
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
    from swin_deploy.report.console import Progress

    request = BundleRequest(**options)
    with Progress().shown() as progress:
        made = make_bundle(request, progress.started)
        for note in made.notes:
            progress.note(note)
    signed = "signed" if made.signed else "not signed"
    summary = (
        f"{made.path}: {made.network} for {made.target} in {', '.join(made.precisions)}, "
        f"{len(made.files)} files, {made.size_bytes / 1e6:.1f} MB, {signed}\n"
        f"sha256 {made.sha256}\n"
        f"sha256 {made.bundle_sha256} of its bundle.json, which build prints on the device"
    )
    tell(as_json, made.as_dict(), [summary])


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="So many classes of each. Default: 5; all labels of a multi-label network.",
)
@click.option(
    "--threshold",
    type=FiniteType(0, 1),
    metavar="P",
    help="Probability from which a label of a multi-label network holds. Default: 0.5.",
)
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
    type=FOLDER,
    metavar="DIR",
    help="Write each photo there with its classes below it.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the engine.")
@click.option(
    "--verify-key",
    type=FILE,
    metavar="PUB",
    help="Ask that the owner of this Ed25519 key, a PEM file, signed the bundle.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of an inference.")
def predict(
    bundle: Path,
    photos: tuple[str, ...],
    top: int | None,
    threshold: float | None,
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
    from swin_deploy.runtime.report import Telling, find_work, report_photos

    found = find_work(bundle, photos, annotate)
    with SwinEngine.load(bundle, precision, verify_key=verify_key, threads=threads) as engine:
        lines = LINE_FORMATS[LINE_FORMATS.index(form)]
        telling = Telling(top=top, threshold=threshold, form=lines, pictures=annotate)
        report_photos(engine, found, telling)
