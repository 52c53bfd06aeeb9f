"""``swin-deploy inspect`` and ``refit``: what a checkpoint is, and one more into an engine."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swin_deploy.cli.options import (
    fetch_network,
    fetch_source,
    image_option,
    json_option,
    load_options,
    load_options_of,
    meaning_options,
    nested,
    network_options,
    print_json,
    resolve_network,
    source_option,
    tell,
)
from swin_deploy.cli.types import REAL_FILE, FolderType
from swin_deploy.core.errors import caught
from swin_deploy.network.catalogue import NetworkConfig, summarise
from swin_deploy.network.checkpoints.meaning import Meaning
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import Size, describe_outputs
from swin_deploy.network.swin import SwinConfig, stage_geometry

if TYPE_CHECKING:
    from swin_deploy.network.checkpoints.load import Checkpoint
    from swin_deploy.network.checkpoints.resolve import Resolved
    from swin_deploy.network.checkpoints.source import Source

_SHOWN = 5  # names of classes


@click.command()
@click.argument("weights", metavar="CHECKPOINT")
@network_options
@image_option(help="Size to run it at.")
@load_options
@meaning_options
@json_option
def inspect(
    weights: str,
    variant: str | None,
    config: Path | None,
    image: Size | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what a checkpoint is: library, variant, classes, and the command that exports it.

    \b
        swin-deploy inspect finetuned.safetensors
        swin-deploy inspect hf:microsoft/swinv2-tiny-patch4-window8-256

    CHECKPOINT is all that export takes as --weights. Nothing in the file is run. A file that export
    would refuse is refused here with the reason.
    """
    from swin_deploy.report.console import show

    said = nested(options, load=LoadOptions, meaning=Meaning)
    network, meaning = resolve_network(variant, config), said["meaning"]
    load = load_options_of(network, image, said["load"])
    source, load = fetch_source(weights, variant, load, caught(meaning.names))
    from swin_deploy.network.checkpoints.resolve import load_source, resolve_weights

    found = load_source(source, load)
    resolved = resolve_weights(source, network, load, meaning, found)
    command = ["swin-deploy", "export", "--weights", weights]
    command += ["--variant", variant] if variant else []
    command += ["--config", str(config)] if config else []
    command += ["--image", f"{image[0]}x{image[1]}"] if image else []
    command += [*said["load"].written(), *meaning.written()]
    command += [] if found.config.num_classes else ["--outputs", "stages"]
    next_command = shlex.join(command)
    notes = tuple(dict.fromkeys((*found.notes, *resolved.notes)))
    if as_json:
        facts = {
            "source": source.provenance | {"file": source.path.name},
            "dialect": found.dialect,
            "preprocessing": asdict(resolved.variant.preprocessing),
            "labels": resolved.labels,
            "task": resolved.task,
            "outputs": describe_outputs(resolved.task, found.config.num_classes),
            "windows": _windows(found.config),
            "config": asdict(found.config),
            "tensors": len(found.tensors),
            "opened": found.opened,
            "dropped": found.dropped,
            "notes": notes,
            "next": next_command,
        }
        print_json(facts)
        return
    lines = _lines(source, found, resolved) | {
        "notes": "; ".join(notes) or "none",
        "next": next_command,
    }
    show(f"{name:9} {value}" for name, value in lines.items())


def _lines(source: Source, found: Checkpoint, resolved: Resolved) -> dict[str, Any]:
    config, summary, origin = found.config, summarise(found.config), source.provenance
    height, width = config.image_size
    trained = summary.pretrained_windows
    place = origin.get("repository") or origin.get("name") or source.path
    return {
        "source": f"{origin['source']}: {place} {origin.get('revision', '')}".rstrip(),
        "dialect": found.dialect,
        "variant": f"{config.name} ({summary.kind})",
        "classes": config.num_classes or f"none: a backbone, for --outputs {_without(config)}",
        "labels": _labels(resolved.labels),
        "outputs": describe_outputs(resolved.task, config.num_classes),
        "image": f"{height}x{width}, channels: {config.in_channels}",
        "photos": resolved.variant.preprocessing.describe(),
        "windows": (", ".join(_windows(config)) or summary.window)
        + (f", pre-trained with {trained}" if trained else ""),
        "stages": f"depths {summary.depths}, heads {summary.heads}, {summary.channels} channels",
        "parts": ", ".join(summary.parts) or "as in the papers",
        "semantics": ", ".join(f"{k} {v}" for k, v in summary.semantics.items()) or "no choices",
        "mapped": f"{len(found.tensors)} tensors, all that the network has",
        "missing": "nothing",  # or it would have been refused
        "dropped": _summary(found.dropped, found.opened),
        "opened": ", ".join(found.opened) or "nothing around them",
    }


def _without(config: NetworkConfig) -> str:
    """What a network without classes gives."""
    bare = isinstance(config, SwinConfig) and not config.has_norm
    return "stages" if bare else "stages or embedding"


def _windows(config: NetworkConfig) -> list[str]:
    """Those of each stage, in tokens, as they are at the size of the images."""
    if not isinstance(config, SwinConfig):
        return []
    return [
        _sides(stage.window) + (f" shifted by {_sides(stage.shift)}" if any(stage.shift) else "")
        for stage in stage_geometry(config)
    ]


def _sides(pair: Size) -> str:
    return f"{pair[0]}x{pair[1]}"


def _labels(names: tuple[str, ...]) -> str:
    """How many there are, and the first of them."""
    if not names:
        return "not known; --classes names them"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_SHOWN])}{more}"


def _summary(dropped: tuple[str, ...], opened: tuple[str, ...]) -> str:
    """Buffers counted by the last piece of their names, other parts by where they leave ours."""
    if not dropped:
        return "nothing"
    prefix = next((one for one in opened if one.endswith(".")), "").split(".")
    counts: dict[str, int] = {}
    for name in dropped:
        pieces = name.split(".")
        pairs = zip(pieces, prefix, strict=False)
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        ours = name.startswith("layers.")
        kind = pieces[-1] if ours else ".".join(pieces[: shared + 1])
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


@click.command()
@click.argument("engine", type=REAL_FILE)
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
@source_option("--images", metavar="DIR", help="Photos to verify on, beside seeded noise.")
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
    from swin_deploy.data.images import require_photos
    from swin_deploy.pipeline.refit import find_refittable, refit_engine, refit_request
    from swin_deploy.report.console import Progress
    from swin_deploy.report.run_tables import run_summary

    found = find_refittable(engine)
    photos = () if images is None else caught(require_photos, images)
    fetched, _ = fetch_network(weights, None, found.run.variant, found.load, photos)
    request = refit_request(found, fetched.source, out, images)
    with Progress().shown() as progress:
        result = refit_engine(found, request, progress)
    tell(as_json, result.as_dict(), run_summary(result))
