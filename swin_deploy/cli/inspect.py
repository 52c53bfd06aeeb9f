"""``swin-deploy inspect``: what a checkpoint is, and how to export it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

import click

from swin_deploy.architecture import Size
from swin_deploy.cli.types import ImageType, json_option
from swin_deploy.interrupts import import_torch


@click.command()
@click.argument("weights", metavar="CHECKPOINT")
@click.option("--image", type=ImageType(), metavar="SIZE", help="Size that it was trained for.")
@json_option
def inspect(weights: str, image: Size | None, as_json: bool) -> None:
    """Say what a checkpoint is: library, variant, classes, and the command that exports it.

    \b
    swin-deploy inspect finetuned.safetensors

    CHECKPOINT is what export takes as --weights, hf:, timm: and torchvision: too.
    Nothing in the file is run. A file that export would refuse is refused here with the reason.
    """
    from swin_deploy.checkpoints.hub import resolve_source
    from swin_deploy.report.console import Downloads, stdout

    with Downloads().shown() as downloads:
        source = resolve_source(weights, None, downloads)
    import_torch()
    from swin_deploy.checkpoints.resolve import load_source

    found = load_source(source, image)
    command = ["swin-deploy", "export", "--weights", weights]
    if image is not None:
        command += ["--image", f"{image[0]}x{image[1]}"]
    facts = {
        "source": source.provenance | {"file": source.path.name},
        "dialect": found.dialect,
        "preprocessing": source.preprocessing and asdict(source.preprocessing),
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
    config, console = found.config, stdout()
    origin = source.provenance
    place = origin.get("repository") or origin.get("name") or source.path
    lines = {
        "source": f"{origin['source']}: {place} {origin.get('revision', '')}".rstrip(),
        "dialect": found.dialect,
        "variant": config.name,
        "classes": config.num_classes,
        "image": f"{config.image_size[0]}x{config.image_size[1]}, windows of {config.window_size}",
        "stages": f"depths {config.depths}, heads {config.num_heads}, {config.embed_dim} channels",
        "tensors": f"{len(found.tensors)} read, all that the network has",
        "opened": ", ".join(found.opened) or "nothing around them",
        "dropped": f"{len(found.dropped)} buffers that follow from the architecture",
        "notes": "; ".join(found.notes) or "none",
        "next": facts["next"],
    }
    for name, value in lines.items():
        console.print(f"{name:8} {value}", soft_wrap=True)
