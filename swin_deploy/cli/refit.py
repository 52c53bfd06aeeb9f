"""``swin-deploy refit``: new weights into an engine, without compiling it again."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import click

from swin_deploy.cli.types import FolderType, PathType, json_option
from swin_deploy.errors import caught, raise_all


@click.command()
@click.argument("engine", type=PathType(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--weights",
    required=True,
    metavar="SOURCE",
    help="A checkpoint of the same network: whatever export takes.",
)
@click.option(
    "--out",
    type=FolderType(),
    metavar="DIR",
    help="The new run folder. Default: beside the old one, with the name of the checkpoint.",
)
@click.option(
    "--images",
    type=PathType(path_type=Path),
    metavar="DIR",
    help="Photos to verify on, beside seeded noise.",
)
@json_option
def refit(engine: Path, weights: str, out: Path | None, images: Path | None, as_json: bool) -> None:
    """Put the weights of a fine-tuned checkpoint into an engine, in seconds.

    \b
        swin-deploy export --variant swin_t --target tensorrt --refittable
        swin-deploy refit artifacts/swin_t/engines/tensorrt-fp16.plan --weights tuned.safetensors

    The engine has to be built with --refittable or --strip-weights, and this machine has to have
    its GPU. What is said beside the weights has to be what the engine was built for: refitting
    changes no preprocessing and no meaning of outputs. The result is a run folder of its own,
    verified against eager PyTorch with the new weights; the old one stays as it is.
    """
    from swin_deploy.checkpoints.hub import require_source
    from swin_deploy.cli.weights import fetch_network
    from swin_deploy.data.inputs import require_photos
    from swin_deploy.pipeline.refit import find_refittable, refit_engine, refit_request
    from swin_deploy.report.console import Progress, show
    from swin_deploy.report.run_tables import run_summary

    found = find_refittable(engine)
    photos = () if images is None else caught(require_photos, images)
    raise_all(chain(photos, caught(require_source, weights, None)))
    _, source, _ = fetch_network(weights, None, found.run.variant, found.load)
    request = refit_request(found, source, out, images)
    with Progress().shown() as progress:
        result = refit_engine(found, request, progress)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        show(run_summary(result))
