"""A finished run, opened to be run again: its network, its inputs, and its engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swin_deploy.artifacts.manifest import MANIFEST
from swin_deploy.artifacts.reader import FinishedRun
from swin_deploy.batches import BatchRange
from swin_deploy.data.pixels import ImageInput
from swin_deploy.engine.fingerprint import read_fingerprint
from swin_deploy.engine.open import open_engine, why_not_here
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.errors import InputError
from swin_deploy.interface import OUTPUTS, Interface, Outputs
from swin_deploy.networks import NetworkConfig, config_of
from swin_deploy.precisions import PRECISIONS, Precision
from swin_deploy.preprocessing import Preprocessing
from swin_deploy.runners.base import Runner

# What the graphs of a run are called, and their precision.
GRAPH_FILES: dict[str, Precision] = {
    "model.raw.onnx": "fp32",
    "model.sim.onnx": "fp32",
    "model.onnx": "fp32",
    **{f"model.{precision}.onnx": precision for precision in PRECISIONS if precision != "fp32"},
    "model.int8.cpu.onnx": "int8",
}
AS_EXPORTED_FILES = ("model.raw.onnx", "model.sim.onnx")  # with the ends that were traced


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """What a manifest says of a run.

    Attributes:
        run: The run.
        config: Its network.
        seed: Of random weights.
        weights: The file that the run keeps them in; None for random ones.
        preprocessing: Of its photos.
        batch: That its graphs are for.
        outputs: What the network gives.
        interface: What the deployed graphs take and give.
        floors_db: Output -> what the run held its FP32 files to.
        int8_by_accuracy: Whether labelled images decided on its INT8 graphs.
    """

    run: FinishedRun
    config: NetworkConfig
    seed: int
    weights: Path | None
    preprocessing: Preprocessing
    batch: BatchRange
    outputs: Outputs
    interface: Interface
    floors_db: dict[str, float] = field(default_factory=dict)
    int8_by_accuracy: bool = False

    @property
    def engines(self) -> dict[str, tuple[str, Target, Precision]]:
        """Name of an engine -> its stage, target and precision."""
        found = {}
        for stage, record in self.run.manifest.stages.items():
            if stage.startswith("engine:"):
                target, precision = TARGETS[record.details["target"]], record.details["precision"]
                found[f"{target.name}-{precision}"] = (stage, target, precision)
        return found

    def image_input(self, precision: Precision) -> ImageInput:
        """What the graph of a precision takes."""
        steps = self.preprocessing
        return ImageInput(self.interface.io_of(precision), steps.mean, steps.std)

    @property
    def images(self) -> ImageInput:
        """Images of this kind can be handed to every graph of the run."""
        return ImageInput(self.interface.io, self.preprocessing.mean, self.preprocessing.std)

    def open_engine(self, name: str, threads: int | None = None) -> Runner | str:
        """The runner of an engine, or why this machine cannot run it.

        Raises:
            UnsafeError: A file of it is not the one that was recorded.
        """
        stage, target, precision = self.engines[name]
        details = self.run.manifest.stages[stage].details
        path, *_ = [self.run.checked(file) for file in target.engine_files(precision)]
        if (reason := why_not_here(target, details)) is not None:
            return reason
        taken, built_for = self.image_input(precision), read_fingerprint(details, path)
        return open_engine(target, precision, path, threads, taken, built_for)


def read_run(run: FinishedRun) -> OpenedRun:
    """Read the manifest of a run.

    Raises:
        InputError: It does not describe a network.
        UnsafeError: Its weights are not those that were recorded.
    """
    header, stages = run.manifest.header, run.manifest.stages
    try:
        random = header["weights"]["source"] == "random"
        steps: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["preprocessing"].items()
        }
        int8 = [record for stage, record in stages.items() if stage.startswith("int8:")]
        return OpenedRun(
            run=run,
            config=config_of(header["family"], header["variant"]),
            seed=int(header["weights"]["seed"]) if random else 0,
            weights=None if random else run.checked("weights.safetensors"),
            preprocessing=Preprocessing(**steps),
            batch=BatchRange(**header["batch"]),
            outputs=OUTPUTS[OUTPUTS.index(header["outputs"])],
            interface=Interface(**header["interface"]),
            floors_db=stages["verify"].details["fp32_floors_db"],
            int8_by_accuracy=any(r.details["accuracy"] is not None for r in int8),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{run.path / MANIFEST} does not describe a network: {error!r}", "export again"
        ) from error
