"""What a manifest says of a run, as a report shows it, and the commands that make it again."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.interface import Interface
from swin_deploy.precisions import PRECISIONS
from swin_deploy.records import Count, Rows, Text, decode, finite
from swin_deploy.report.run_tables import DeployedFile, describe_weights, list_files
from swin_deploy.run.finished import Run
from swin_deploy.run.manifest import Weights
from swin_deploy.run.names import MANIFEST
from swin_deploy.variants import VARIANTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A run.

    Attributes:
        image_size: Height and width, pixels.
        batch: Lowest and highest.
        weights: Where they came from, in words.
        random: Whether they predict nothing.
        outputs: "logits" or "stages".
        interface: Ends of the graphs.
        compilers: Module and version of each engine's.
        files: In the order in which they were made.
        settings: Name -> value of what else the manifest says of the network and its images.
        folder: Of the run, as it was named.
        command: Exports it again.
        command_lacks: What the manifest does not have of it.
    """

    network: Text
    parameters: Count
    image_size: tuple[Count, Count]
    batch: tuple[Count, Count]
    weights: Text
    random: bool
    outputs: Text
    interface: Text
    compilers: Rows[Text]
    files: Rows[DeployedFile]
    notes: Rows[Text]
    settings: dict[Text, Text]
    folder: Text
    command: Text
    command_lacks: Rows[Text]


def read_deployment(run: Run, folder: Path) -> Deployment:
    """What the manifest says; ``folder`` is that of the run as commands shall name it.

    What is longer than a report shows is refused.
    """
    header = run.header
    command, lacks = _export_command(run, folder)
    compilers = (f"{e.details.module} {e.details.version}" for e in run.engines.values())
    weights = header.weights.as_dict()
    about = {"family": header.family} | weights | asdict(header.preprocessing)
    found = Deployment(
        network=run.config.name,
        parameters=header.parameters,
        image_size=run.config.image_size,
        batch=(run.batch.low, run.batch.high),
        weights=describe_weights(weights),
        random=run.random,
        outputs=run.outputs,
        interface=_interface(run.interface),
        compilers=tuple(dict.fromkeys(compilers)),
        files=tuple(list_files(run.manifest.stages, run.path)),
        notes=header.notes,
        settings={name: _plain(value) for name, value in about.items()},
        folder=as_text(folder),
        command=command,
        command_lacks=lacks,
    )
    return decode(Deployment, finite(asdict(found)), run.path / MANIFEST, "export again")


def shell(*words: str | Path) -> str:
    """A command as a shell takes it."""
    return shlex.join(map(as_text, words))


def as_text(path: str | Path) -> str:
    """A path as text that can be written, whatever bytes it has."""
    return os.fsencode(path).decode(errors="replace")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _interface(found: Interface) -> str:
    parts = [f"{found.io} ends"]
    parts += ["softmax"] if found.softmax else []
    parts += [f"the best {found.topk}"] if found.topk else []
    return ", ".join(parts)


def _export_command(run: Run, folder: Path) -> tuple[str, tuple[str, ...]]:
    """The command that makes the run again, and what of it the manifest does not have."""
    config, ends = run.config, run.interface
    words, lacks = ["swin-deploy", "export"], []
    known = VARIANTS.get(config.name)
    if known is None:
        words += ["--config", f"{config.name}.toml"]
        lacks.append("the TOML file of the network: its values are in manifest.json, under variant")
    else:
        words += ["--variant", config.name]
        if config.image_size != known.config.image_size:
            words += ["--image", "x".join(map(str, config.image_size))]
    words += _weights_options(run.header.weights)
    words += ["--batch", str(run.batch)]
    words += ["--outputs", run.outputs] if run.outputs != "logits" else []
    words += ["--io", ends.io] if ends.io != "fp32" else []
    words += ["--softmax"] if ends.softmax else []
    words += ["--topk", str(ends.topk)] if ends.topk else []
    made = {stage.partition(":")[0] for stage in run.manifest.stages}
    words += ["--precision", ",".join(p for p in PRECISIONS if p == "fp32" or p in made)]
    if "int8" in made:
        words += ["--calibration", "PHOTOS"]
        lacks.append("the calibration images: calibration.json has the sha256 of each")
    for target in dict.fromkeys(engine.target.name for engine in run.engines.values()):
        words += ["--target", target]
    if run.header.photos is not None:
        words += ["--images", "PHOTOS"]
        lacks.append("the photos that it was verified on")
    return shell(*words, "--out", folder), tuple(lacks)


def _weights_options(weights: Weights) -> list[str]:
    if weights.random:
        return ["--seed", str(weights.seed)] if weights.seed else []
    if weights.source in ("hf", "timm"):
        return ["--weights", f"{weights.source}:{weights.repository}@{weights.revision}"]
    if weights.source == "torchvision":
        return ["--weights", f"torchvision:{weights.name}:{weights.revision}"]
    return ["--weights", "bundled" if weights.source == "bundled" else str(weights.file)]
