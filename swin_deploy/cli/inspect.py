"""``swin-deploy inspect``: what a checkpoint is, and how to export it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swin_deploy.cli.types import (
    ImageType,
    json_option,
    load_options,
    network_options,
    resolve_network,
)
from swin_deploy.interrupts import import_torch
from swin_deploy.networks import summarise
from swin_deploy.preprocessing import Size

if TYPE_CHECKING:
    from swin_deploy.checkpoints.load import Checkpoint
    from swin_deploy.checkpoints.source import Source


@click.command()
@click.argument("weights", metavar="CHECKPOINT")
@network_options
@click.option("--image", type=ImageType(), metavar="SIZE", help="Size to run it at.")
@load_options
@json_option
def inspect(
    weights: str,
    variant: str | None,
    config: Path | None,
    image: Size | None,
    window: int | None,
    ema: bool,
    as_json: bool,
) -> None:
    """Say what a checkpoint is: library, variant, classes, and the command that exports it.

    \b
        swin-deploy inspect finetuned.safetensors
        swin-deploy inspect hf:microsoft/swinv2-tiny-patch4-window8-256

    CHECKPOINT is all that export takes as --weights. Nothing in the file is run. A file that export
    would refuse is refused here with the reason.
    """
    from swin_deploy.checkpoints.source import with_hints
    from swin_deploy.cli.weights import fetch_source, load_options_of
    from swin_deploy.report.console import show

    options = load_options_of(resolve_network(variant, config), image, window, ema)
    source = fetch_source(weights, variant)
    import_torch()
    from swin_deploy.checkpoints.resolve import load_source

    found = load_source(source, with_hints(options, source))
    command = ["swin-deploy", "export", "--weights", weights]
    command += ["--variant", variant] if variant else []
    command += ["--config", str(config)] if config else []
    command += ["--image", f"{image[0]}x{image[1]}"] if image else []
    command += ["--window", str(window)] if window else []
    command += ["--ema"] if ema else []
    command += [] if found.config.num_classes else ["--outputs", "stages"]
    next_command = shlex.join(command)
    if as_json:
        facts = {
            "source": source.provenance | {"file": source.path.name},
            "dialect": found.dialect,
            "preprocessing": source.preprocessing and asdict(source.preprocessing),
            "config": asdict(found.config),
            "tensors": len(found.tensors),
            "opened": found.opened,
            "dropped": found.dropped,
            "notes": found.notes,
            "next": next_command,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    lines = _lines(source, found) | {"next": next_command}
    show(f"{name:9} {value}" for name, value in lines.items())


def _lines(source: Source, found: Checkpoint) -> dict[str, Any]:
    config, summary, origin = found.config, summarise(found.config), source.provenance
    height, width = config.image_size
    trained = summary.pretrained_windows
    place = origin.get("repository") or origin.get("name") or source.path
    return {
        "source": f"{origin['source']}: {place} {origin.get('revision', '')}".rstrip(),
        "dialect": found.dialect,
        "variant": f"{config.name} ({summary.kind})",
        "classes": config.num_classes or "none: a backbone, for --outputs stages",
        "image": f"{height}x{width}",
        "windows": summary.window + (f", pre-trained with {trained}" if trained else ""),
        "stages": f"depths {summary.depths}, heads {summary.heads}, {summary.channels} channels",
        "semantics": ", ".join(f"{k} {v}" for k, v in summary.semantics.items()) or "no choices",
        "mapped": f"{len(found.tensors)} tensors, all that the network has",
        "missing": "nothing",  # or it would have been refused
        "dropped": _summary(found.dropped),
        "opened": ", ".join(found.opened) or "nothing around them",
        "notes": "; ".join(found.notes) or "none",
    }


def _summary(dropped: tuple[str, ...]) -> str:
    """Buffers and foreign parts, counted by the last or the first piece of their names."""
    if not dropped:
        return "nothing"
    counts: dict[str, int] = {}
    for name in dropped:
        kind = name.rpartition(".")[2] if name.startswith("layers.") else name.partition(".")[0]
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
