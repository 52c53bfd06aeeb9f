"""``swin-deploy inspect``: what a checkpoint is, and how to export it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import click

from swin_deploy.architecture import Size
from swin_deploy.cli.types import ImageType, json_option
from swin_deploy.interrupts import import_torch
from swin_deploy.networks import summarise


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--image", type=ImageType(), metavar="SIZE", help="Size that it was trained for.")
@json_option
def inspect(checkpoint: Path, image: Size | None, as_json: bool) -> None:
    """Say what a checkpoint is: library, variant, classes, and the command that exports it.

    \b
    swin-deploy inspect finetuned.safetensors

    Nothing in the file is run. A file that export would refuse is refused here with the reason.
    """
    import_torch()
    from swin_deploy.checkpoints.load import load_checkpoint
    from swin_deploy.report.console import stdout

    found = load_checkpoint(checkpoint, image)
    command = ["swin-deploy", "export", "--weights", str(checkpoint)]
    if image is not None:
        command += ["--image", f"{image[0]}x{image[1]}"]
    facts = {
        "dialect": found.dialect,
        "config": asdict(found.config),
        "tensors": len(found.tensors),
        "opened": found.opened,
        "dropped": found.dropped,
        "notes": found.notes,
        "next": shlex.join(command),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    config, summary, console = found.config, summarise(found.config), stdout()
    lines = {
        "dialect": found.dialect,
        "variant": config.name,
        "classes": config.num_classes,
        "image": f"{config.image_size[0]}x{config.image_size[1]}, window {summary.window}",
        "stages": f"depths {summary.depths}, heads {summary.heads}, {summary.channels} channels",
        "tensors": f"{len(found.tensors)} read, all that the network has",
        "opened": ", ".join(found.opened) or "nothing around them",
        "dropped": f"{len(found.dropped)} buffers that follow from the architecture",
        "notes": "; ".join(found.notes) or "none",
        "next": facts["next"],
    }
    for name, value in lines.items():
        console.print(f"{name:8} {value}", soft_wrap=True)
