"""What a manifest says of a run: files, stages and weights in words; the command for it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.records import Count, Rows, Text, decode, finite
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.interface import HALF_PRECISIONS, PRECISIONS, Interface
from swin_deploy.report.tables import Cell, Columns, Table, code, number, tabulate, text
from swin_deploy.run.details import MANIFEST
from swin_deploy.run.finished import Run
from swin_deploy.run.manifest import StageRecord, Weights

NEVER_RUN = "NEVER RUN"  # an engine that no machine has run
_HASH = 12  # characters of a sha256 that tables show; report.json has all
_BESIDE = {".kernels.json": "its kernels: swin-deploy cost", ".log": "what its compiler said"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedFile:
    """A file that the manifest lists.

    Attributes:
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


def list_files(stages: Mapping[str, StageRecord], folder: Path) -> list[DeployedFile]:
    """In the order in which they were made."""
    return [
        DeployedFile(
            stage=stage,
            path=path,
            size_bytes=(folder / path).stat().st_size if (folder / path).is_file() else None,
            sha256=value,
            what=_BESIDE.get("".join(Path(path).suffixes), "") or describe_stage(stage, stages),
            seconds=record.seconds,
        )
        for stage, record in stages.items()
        for path, value in record.outputs.items()
    ]


def files_table(
    caption: str,
    files: Iterable[tuple[str, DeployedFile]],
    current: Collection[str] = (),
    without: Collection[str] = (),
) -> Table:
    """A row a file; ``current`` are stages that did not have to run."""

    def seconds(file: DeployedFile) -> Cell:
        if "".join(Path(file.path).suffixes) in _BESIDE:
            return text("")  # its engine has them
        return text("current") if file.stage in current else number(file.seconds, ",.1f")

    columns: Columns[DeployedFile] = (
        ("stage", lambda file: file.stage.partition(":")[0]),
        ("file", lambda file: code(file.path)),
        (">MB", lambda file: number(file.size_bytes and file.size_bytes / 1e6)),
        ("what", lambda file: file.what),
        ("sha256", lambda file: code(file.sha256[:_HASH])),
        (">seconds", seconds),
    )
    return tabulate(caption, columns, files, without)


def describe_weights(weights: Mapping[str, Any]) -> str:
    """Where the weights came from, by what the manifest has of them."""
    if weights["source"] == "random":
        return (
            f"RANDOM (seed {weights['seed']}): good for timing and for proving the conversion, "
            "not for predictions"
        )
    origin = weights.get("repository") or weights.get("name")
    origin = f"{weights['source']}:{origin} at {weights['revision'][:12]}, " if origin else ""
    return f"{origin}{weights['file']} ({weights['dialect']}), sha256 {weights['sha256'][:12]}"


def never_run(stages: Mapping[str, StageRecord]) -> dict[str, str]:
    """Stage of an engine that nothing has run -> why; the gate knows it as "engine NAME"."""
    left = stages["verify"].details.get("not_run", {}) if "verify" in stages else {}
    return {name.replace("engine ", "engine:", 1): reason for name, reason in left.items()}


def describe_stage(stage: str, stages: Mapping[str, StageRecord]) -> str:
    """What a stage of a run found out, in a few words."""
    details = stages[stage].details
    if stage == "weights":
        return f"{details['tensors']} tensors, {details['dropped']} others left out"
    if stage == "export":
        return f"{details['nodes']} nodes"
    if stage == "simplify":
        kept = " (kept as exported)" if details["failure"] else ""
        return f"{details['nodes_before']} -> {details['nodes_after']} nodes{kept}"
    if stage == "interface":
        ends = {**details["inputs"], **details["outputs"]}
        return ", ".join(f"{name} {dtype}" for name, (dtype, _) in ends.items())
    if stage in HALF_PRECISIONS:
        kept = f", {len(details['fp32_nodes'])} nodes in FP32" if details["fp32_nodes"] else ""
        return f"{details['weights']} tensors, largest {details['largest']:.4g}{kept}"
    if stage == "calibrate":
        return f"{details['images']} of {details['found']} images, {details['tensors']} tensors"
    if stage.startswith("int8:"):
        agreement = details["agreement"]
        words = (
            f"{details['method']}: {len(details['gemms'])} products, {len(details['attentions'])} "
            f"attentions; {agreement['sqnr_db']:.1f} dB on {agreement['inputs']}"
        )
        if (accuracy := details["accuracy"]) is not None:
            own, full = accuracy["int8"]["top1"], accuracy["fp32"]["top1"]
            words += f", top-1 {own:.2f} % of {accuracy['images']} (FP32 {full:.2f} %)"
        return words
    if stage == "verify":
        return f"{details['comparisons']} comparisons passed"
    words = f"{details['module']} {details['version']}"
    if details["kernels"] is not None:
        words += f": {details['kernels']} kernels, {details['fused_attentions']} fused attentions"
    return f"{NEVER_RUN}, {words}" if stage in never_run(stages) else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A run.

    Attributes:
        batch: Lowest and highest.
        weights: Where they came from, in words.
        random: Whether they predict nothing.
        interface: Ends of the graphs.
        compilers: Module and version of each engine's.
        settings: Name -> value of what else the manifest says of the network and its images.
        folder: As it was named.
        command: Exports it again; ``command_lacks`` is what the manifest does not have of it.
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
    parts += [found.activation] if found.probabilities else []
    parts += [found.task] if found.task != "single-label" else []
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
    words += ["--activation", ends.activation] if ends.probabilities else []
    words += ["--task", ends.task] if ends.task != "single-label" else []
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
