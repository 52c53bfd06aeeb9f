"""What a finished run says of itself, as a bundle has to know it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_deploy.artifacts.manifest import MANIFEST
from swin_deploy.artifacts.reader import FinishedRun, require_run
from swin_deploy.batches import BatchRange
from swin_deploy.data.classes import read_class_names
from swin_deploy.data.pixels import ImageInput
from swin_deploy.engine.target import Target
from swin_deploy.errors import ConfigError, EnvironmentMissingError, InputError
from swin_deploy.interface import OUTPUTS, Interface, Outputs
from swin_deploy.judge import FLOORS, FLOORS_DB
from swin_deploy.networks import NetworkConfig, config_of
from swin_deploy.pipeline.context import LABELS, WEIGHTS
from swin_deploy.pipeline.engines import graph_of
from swin_deploy.pipeline.int8 import INT8_RECIPES
from swin_deploy.precisions import Precision
from swin_deploy.preprocessing import Preprocessing, read_preprocessing

_MARGIN_DB = 6.0  # twice the error: what another runtime may add to INT8 that accuracy has judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A finished run.

    Attributes:
        run: Its files.
        config: The network.
        weights: Where they come from.
        batch: Of its graphs.
        outputs: "logits" or "stages".
        names: Of the outputs of its graphs.
        interface: What the graphs take and give.
        preprocessing: Of photos.
        labels: Names of the classes by index; empty where they are not known.
        notes: What the user of the run had to know.
    """

    run: FinishedRun
    config: NetworkConfig
    weights: dict[str, Any]
    batch: BatchRange
    outputs: Outputs
    names: tuple[str, ...]
    interface: Interface
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def random(self) -> bool:
        """Whether its weights are random."""
        return bool(self.weights["source"] == "random")

    @property
    def seed(self) -> int:
        """Of random weights."""
        return int(self.weights.get("seed", 0))

    @property
    def weights_file(self) -> Path | None:
        """The weights that it keeps; None of random ones."""
        return None if self.random else self.run.checked(WEIGHTS)

    @property
    def images(self) -> ImageInput:
        """Images of this kind can be handed to every graph."""
        return ImageInput(self.interface.io, self.preprocessing.mean, self.preprocessing.std)

    def floors_db(self, target: Target, precision: Precision) -> dict[str, float]:
        """Output -> the lowest SQNR against eager PyTorch that an engine may have, in dB."""
        stages = self.run.manifest.stages
        floors = dict.fromkeys(self.names, FLOORS_DB[precision])
        if precision == "fp32":
            held = stages["verify"].details["fp32_floors_db"]
            return {name: held.get(name, floor) for name, floor in floors.items()}
        if precision == "int8":
            judged = stages[f"int8:{INT8_RECIPES[target.kind]}"].details
            if judged["accuracy"] is not None:  # it may be further off, and is good enough
                lowest = judged["agreement"]["sqnr_db"] - _MARGIN_DB
                return {name: min(floor, lowest) for name, floor in floors.items()}
        return floors

    def extreme_floor_db(self, target: Target, precision: Precision) -> float | None:
        """The same on images that no camera takes, of every output; None for finite numbers."""
        if precision == "int8":
            return None
        floor = FLOORS["extreme"][precision]
        return (
            min(floor, *self.floors_db(target, precision).values())
            if precision == "fp32"
            else floor
        )


def read_source(path: Path) -> Source:
    """The run in a folder.

    Raises:
        InputError: There is none, or its manifest is damaged.
        UnsafeError: A file of it was changed.
    """
    run = require_run(path)
    header, stages = run.manifest.header, run.manifest.stages
    try:
        interface = Interface(**header["interface"])
        exported = tuple(stages["export"].details["outputs"])
        return Source(
            run=run,
            config=config_of(header["family"], header["variant"]),
            weights=dict(header["weights"]),
            batch=BatchRange(**header["batch"]),
            outputs=OUTPUTS[OUTPUTS.index(header["outputs"])],
            names=interface.output_names(exported),
            interface=interface,
            preprocessing=read_preprocessing(header["preprocessing"]),
            labels=_labels(run),
            notes=tuple(header["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{run.path / MANIFEST} does not describe a network: {error!r}", "export again"
        ) from error


def _labels(run: FinishedRun) -> tuple[str, ...]:
    if LABELS not in run.manifest.outputs():
        return ()
    return read_class_names(run.checked(LABELS))


def form_note(source: Source, target: Target) -> str | None:
    """What to know of graphs that a GPU's compiler makes slower engines of; None of others."""
    form = source.run.manifest.stages["export"].details.get("form")  # None of a ViT
    if target.kind != "tensorrt" or form in (None, target.form(source.batch.static)):
        return None
    return (
        "this run's graph is in the form for CPUs, which NVIDIA's compiler fuses less: "
        f"swin-deploy export --target {target.name} makes the other"
    )


def never_run_note(source: Source, target: Target) -> str | None:
    """What to know where the bundle is made of a run that has run no engine of the target."""
    run = source.run.manifest
    left = {name.removeprefix("engine ") for name in run.header.get("never_run", {})}
    engines = [record.details for n, record in run.stages.items() if n.startswith("engine:")]
    own = {f"{e['target']}-{e['precision']}" for e in engines if e["target"] == target.name}
    if own - left:
        return None
    return (
        f"NEVER RUN: no engine of target {target.name} has been run where this bundle was made; "
        "build on the device is the first time, and what it says counts"
    )


def choose_graphs(
    source: Source, target: Target, precisions: tuple[Precision, ...] | None
) -> dict[Precision, str]:
    """The graphs of a run that a target is built from: precision -> name of the file.

    Args:
        source: The run.
        target: What engines will be built for.
        precisions: None for all that it has and the target gains from.

    Raises:
        ConfigError: There are none, or one that was asked for is not there.
        EnvironmentMissingError: They are of a newer opset than the parser of the target takes.
    """
    opset = source.run.manifest.stages["export"].details.get("opset", 0)
    if opset > target.opset:
        raise EnvironmentMissingError(
            f"the graphs of {source.run.path} are of opset {opset}, "
            f"target {target.name} takes up to {target.opset}",
            f"swin-deploy export with --target {target.name}",
        )
    present = source.run.manifest.outputs()
    have = {p: graph_of(target, p) for p in target.precisions if graph_of(target, p) in present}
    missing = [p for p in precisions or () if p not in have]
    if missing or not have:
        wanted = ",".join(missing or target.precisions)
        raise ConfigError(
            f"{source.run.path} has no graph in {wanted} for target {target.name}",
            f"swin-deploy export with --precision {wanted} --target {target.name}"
            if not have or set(missing) <= set(target.precisions)
            else f"--precision {','.join(have)}",
        )
    return {p: name for p, name in have.items() if precisions is None or p in precisions}
