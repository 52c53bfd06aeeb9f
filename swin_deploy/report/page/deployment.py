"""What a manifest says of a run, as a report shows it, and the commands that make it again."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from swin_deploy.artifacts.manifest import MANIFEST, Manifest
from swin_deploy.artifacts.reader import FinishedRun
from swin_deploy.errors import InputError
from swin_deploy.precisions import PRECISIONS
from swin_deploy.report.describe import describe_stage, describe_weights
from swin_deploy.report.page.contents import Count, Rows, Text
from swin_deploy.report.page.reading import first_problem
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


def read_deployment(run: FinishedRun, folder: Path) -> Deployment:
    """What the manifest says.

    Args:
        run: Whose.
        folder: Of the run, as commands shall name it.

    Raises:
        InputError: It does not have what this version writes.
    """
    where = run.path / MANIFEST
    try:
        return TypeAdapter(Deployment).validate_python(_fields(run, folder))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else repr(error)
        raise InputError(
            f"{where} is not as this version writes it: {reason}", "export again"
        ) from error


def shell(*words: str | Path) -> str:
    """A command as a shell takes it."""
    return shlex.join(map(as_text, words))


def as_text(path: str | Path) -> str:
    """A path as text that can be written, whatever bytes it has."""
    return os.fsencode(path).decode(errors="replace")


def _fields(run: FinishedRun, folder: Path) -> dict[str, Any]:
    header = run.manifest.header
    config, weights, batch = header["variant"], header["weights"], header["batch"]
    engines = [r.details for n, r in run.manifest.stages.items() if n.startswith("engine:")]
    command, lacks = _export_command(run, folder)
    return {
        "network": config["name"],
        "parameters": header["parameters"],
        "image_size": tuple(config["image_size"]),
        "batch": (batch["low"], batch["high"]),
        "weights": describe_weights(weights),
        "random": weights["source"] == "random",
        "outputs": header["outputs"],
        "interface": _interface(header["interface"]),
        "compilers": tuple(dict.fromkeys(f"{d['module']} {d['version']}" for d in engines)),
        "files": tuple(_files(run.path, run.manifest)),
        "notes": tuple(header["notes"]),
        "settings": {
            name: _plain(value)
            for name, value in (
                {"family": header["family"]} | weights | header["preprocessing"]
            ).items()
        },
        "folder": as_text(folder),
        "command": command,
        "command_lacks": lacks,
    }


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _interface(found: dict[str, Any]) -> str:
    parts = [f"{found['io']} ends"]
    parts += ["softmax"] if found["softmax"] else []
    parts += [f"the best {found['topk']}"] if found["topk"] else []
    return ", ".join(parts)


def _files(root: Path, manifest: Manifest) -> list[DeployedFile]:
    files = []
    for stage, record in manifest.stages.items():
        for path, value in record.outputs.items():
            file = DeployedFile(
                stage=stage,
                path=path,
                size_bytes=(root / path).stat().st_size if (root / path).is_file() else None,
                sha256=value,
                what=_BESIDE.get("".join(Path(path).suffixes), "")
                or describe_stage(stage, manifest.stages),
                seconds=record.seconds,
            )
            files.append(file)
    return files


def _export_command(run: FinishedRun, folder: Path) -> tuple[str, tuple[str, ...]]:
    """The command that makes the run again, and what of it the manifest does not have."""
    header, stages = run.manifest.header, run.manifest.stages
    config, weights, batch = header["variant"], header["weights"], header["batch"]
    words, lacks = ["swin-deploy", "export"], []
    known = VARIANTS.get(config["name"])
    if known is None:
        words += ["--config", f"{config['name']}.toml"]
        lacks.append("the TOML file of the network: its values are in manifest.json, under variant")
    else:
        words += ["--variant", config["name"]]
        if tuple(config["image_size"]) != known.config.image_size:
            words += ["--image", "x".join(map(str, config["image_size"]))]
    words += _weights_options(weights)
    low, high = batch["low"], batch["high"]
    words += ["--batch", str(high) if low == high else f"{low}:{high}"]
    ends = header["interface"]
    words += ["--outputs", header["outputs"]] if header["outputs"] != "logits" else []
    words += ["--io", ends["io"]] if ends["io"] != "fp32" else []
    words += ["--softmax"] if ends["softmax"] else []
    words += ["--topk", str(ends["topk"])] if ends["topk"] else []
    made = {stage.partition(":")[0] for stage in stages}
    words += ["--precision", ",".join(p for p in PRECISIONS if p == "fp32" or p in made)]
    if "int8" in made:
        words += ["--calibration", "PHOTOS"]
        lacks.append("the calibration images: calibration.json has the sha256 of each")
    engines = [r.details["target"] for n, r in stages.items() if n.startswith("engine:")]
    for target in dict.fromkeys(engines):
        words += ["--target", target]
    if header["photos"] is not None:
        words += ["--images", "PHOTOS"]
        lacks.append("the photos that it was verified on")
    return shell(*words, "--out", folder), tuple(lacks)


def _weights_options(weights: dict[str, Any]) -> list[str]:
    source = weights["source"]
    if source == "random":
        return ["--seed", str(weights["seed"])] if weights["seed"] else []
    if source in ("hf", "timm"):
        return ["--weights", f"{source}:{weights['repository']}@{weights['revision']}"]
    if source == "torchvision":
        return ["--weights", f"torchvision:{weights['name']}:{weights['revision']}"]
    return ["--weights", "bundled" if source == "bundled" else weights["file"]]
