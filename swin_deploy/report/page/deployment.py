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
from swin_deploy.report.describe import describe_stage, describe_weights
from swin_deploy.run.finished import Run
from swin_deploy.run.manifest import Weights
from swin_deploy.run.names import MANIFEST
from swin_deploy.variants import VARIANTS

_BESIDE = {".kernels.json": "its kernels", ".log": "what its compiler said"}  # an engine


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedFile:
    """A file that the manifest lists.

    Attributes:
        stage: That made it.
        path: In the run folder.
        size_bytes: None where the file is not there any more.
        sha256: As it was recorded.
        what: What the stage found out.
        seconds: That the stage took.
    """

    stage: Text
    path: Text
    size_bytes: Count | None
    sha256: Text
    what: Text
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A run.

    Attributes:
        network: Its name.
        parameters: How many.
        image_size: Height and width, pixels.
        batch: Lowest and highest.
        weights: Where they came from, in words.
        random: Whether they predict nothing.
        outputs: "logits" or "stages".
        interface: Ends of the graphs.
        compilers: Module and version of each engine's.
        files: In the order in which they were made.
        notes: What the user has to know.
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
    """What the manifest says.

    Args:
        run: Whose.
        folder: Of the run, as commands shall name it.

    Raises:
        InputError: Something of it is longer than a report shows.
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
        files=tuple(_files(run)),
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


def _files(run: Run) -> list[DeployedFile]:
    return [
        DeployedFile(
            stage=stage,
            path=path,
            size_bytes=(run.path / path).stat().st_size if (run.path / path).is_file() else None,
            sha256=value,
            what=_BESIDE.get("".join(Path(path).suffixes), "")
            or describe_stage(stage, run.manifest.stages),
            seconds=record.seconds,
        )
        for stage, record in run.manifest.stages.items()
        for path, value in record.outputs.items()
    ]


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
