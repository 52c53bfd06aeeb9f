"""What a row of the table of targets says, and which row this machine is."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from swin_deploy.engine.here import Device
from swin_deploy.engine.options import LIBRARY_DEFAULTS, BuilderSettings
from swin_deploy.network.export_form import FormName
from swin_deploy.network.interface import Precision

# What the compilers take. TensorRT-RTX says of hardware compatibility that it is "unsupported in
# TensorRT-RTX"; its engines "are not compatible between different releases" (its documentation).
# TensorRT has hardware compatibility neither on DRIVE OS nor on JetPack (developer guide).
RTX_OPTIONS = (
    *("optimisation_level", "workspace_bytes", "aux_streams"),
    *("strip_weights", "refittable"),
)
JETPACK_OPTIONS = (*RTX_OPTIONS, "version_compatible", "timing_cache")  # one GPU alone
TENSORRT_OPTIONS = (*JETPACK_OPTIONS, "hardware_compatible")

Kind = Literal["onnxruntime", "openvino", "tensorrt"]
BatchRegime = Literal["one", "many", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One row.

    Attributes:
        name: What ``--target`` takes.
        kind: Which code builds and runs it.
        module: The Python module of the runtime.
        distribution: The package that provides it.
        install: The command that provides it.
        precisions: The graphs that pay off on it.
        suffix: Of the engine file.
        about: One line for people.
        builds_without_gpu: Whether its compiler runs on a machine without a GPU.
        sources: Where the facts of the row stand: document and fact.
        compute_capability: Of the GPUs that it compiles for, as "8.6"; None for what its compiler
            takes by itself.
        runs_on: Compute capabilities that its plans are for where it names none.
        platform: Of the machines that have this GPU, as "linux-aarch64"; None for any.
        gpu: Its row in ``gpus.GPUS``, for the peak rates; of a series, that of an example.
        devices: Words that the driver's name of such a GPU has, to tell it from others of the same
            compute capability; empty for all of them.
        versions: Of the runtime, as they come with the system of the device; empty for any.
        opset: The newest that its parser shall see; a graph for several targets takes the lowest.
        forms: Of attention, that its compiler is fastest with: static batch, dynamic batch.
        batch: What its engines are mostly asked for: one image at once, or many.
        builder: Settings of its compiler, where a request has none.
        options: Fields of ``BuildOptions`` that its compiler takes.
        weights_suffix: Of the second file of an engine, which has the weights, where there is one.
        by_default: Whether a run that names no target has it. Every engine is compiled and
            verified, which takes its time: alternatives to these are built when asked for.
    """

    name: str
    kind: Kind
    module: str
    distribution: str
    install: str
    precisions: tuple[Precision, ...]
    suffix: str
    about: str
    builds_without_gpu: bool
    sources: tuple[str, ...]
    compute_capability: str | None = None
    runs_on: tuple[str, ...] = ()
    platform: str | None = None
    gpu: str | None = None
    devices: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    opset: int = 20
    forms: tuple[FormName, FormName] = ("packed", "packed")
    batch: BatchRegime = "any"
    builder: BuilderSettings = LIBRARY_DEFAULTS
    options: tuple[str, ...] = ()
    weights_suffix: str | None = None
    by_default: bool = True

    @property
    def installed(self) -> bool:
        """Whether its module can be imported, found out without importing it."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def one_device(self) -> bool:
        """Whether its engines are built on the device itself and nowhere else."""
        return self.compute_capability is not None and not self.builds_without_gpu

    def form(self, static: bool) -> FormName:
        """The form of attention that it is fastest with."""
        return self.forms[0 if static else 1]

    def engine_name(self, precision: Precision) -> str:
        """Path of its engine inside a run folder."""
        return f"engines/{self.name}-{precision}.{self.suffix}"

    def engine_files(self, precision: Precision) -> tuple[str, ...]:
        """Paths of all files that its engine consists of, inside a run folder; that one first."""
        name = self.engine_name(precision)
        if self.weights_suffix is None:
            return (name,)
        return (name, f"{name.removesuffix(self.suffix)}{self.weights_suffix}")

    def listing_name(self, precision: Precision) -> str | None:
        """Path of the listing of its kernels; None where the runtime lists none."""
        return f"engines/{self.name}-{precision}.kernels.json" if self.kind == "tensorrt" else None

    def log_name(self, precision: Precision) -> str:
        """Path of what its compiler said, inside a run folder."""
        return f"engines/{self.name}-{precision}.log"


HERE = "here"  # what --target takes for it
_BOARDS = {"orin": "jetson-orin", "thor": "jetson-thor"}  # word in the board's name -> row


def row_of(device: Device, rows: Iterable[Target]) -> str:
    """Name of the row that a machine is: its Jetson, its GPU, a GPU of no row, or its CPU."""
    words = set(re.split(r"[\s-]+", device.board.lower()))
    if "jetson" in words:
        for word, row in _BOARDS.items():
            if word in words:
                return row
    if device.compute_capability is None:
        return "cpu"
    return next((row.name for row in rows if is_device(device, row)), "tensorrt")


def is_device(device: Device, row: Target) -> bool:
    """Whether engines of this row, which are for one GPU, are for the GPU of a machine."""
    return (
        row.compute_capability is not None
        and row.compute_capability == device.compute_capability
        and row.platform in (None, device.platform)
        and (not row.devices or bool(set(re.split(r"[\s-]+", device.name)) & set(row.devices)))
    )
