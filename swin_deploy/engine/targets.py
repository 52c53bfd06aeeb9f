"""The table of targets: what an engine can be built for, and what that takes."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from swin_deploy.errors import ConfigError
from swin_deploy.precisions import PRECISIONS, Precision

Kind = Literal["onnxruntime", "openvino", "tensorrt"]


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
        compute_capability: Of the GPUs that it compiles for, as "8.6"; None for what its compiler
            takes by itself.
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
    compute_capability: str | None = None
    weights_suffix: str | None = None
    by_default: bool = True

    @property
    def installed(self) -> bool:
        """Whether its module can be imported, found out without importing it."""
        return importlib.util.find_spec(self.module) is not None

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


_AHEAD: tuple[Precision, ...] = ("fp16", "bf16", "int8")


def _rtx(
    series: int, about: str, compute_capability: str, precisions: tuple[Precision, ...] = _AHEAD
) -> Target:
    """TensorRT-RTX for one series of GPUs, which need not be here."""
    return Target(
        name=f"rtx-{series}",
        kind="tensorrt",
        module="tensorrt_rtx",
        distribution="tensorrt-rtx-cu13",
        install="pip install 'swin-deploy[rtx]'",
        precisions=precisions,
        suffix="plan",
        about=f"TensorRT-RTX for the RTX {series} series alone: {about}",
        builds_without_gpu=True,
        compute_capability=compute_capability,
        by_default=False,
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="cpu",
            kind="onnxruntime",
            module="onnxruntime",
            distribution="onnxruntime",
            install="pip install onnxruntime",
            # It computes FP16 as FP32 between two casts, and has no BF16 kernels.
            precisions=("fp32", "int8"),
            suffix="onnx",
            about="ONNX Runtime on any CPU",
            builds_without_gpu=True,
        ),
        Target(
            name="cpu-openvino",
            kind="openvino",
            module="openvino",
            distribution="openvino",
            install="pip install 'swin-deploy[openvino]'",
            # A CPU without FP16 arithmetic computes FP16 graphs in BF16: not what was verified.
            precisions=("fp32", "bf16", "int8"),
            suffix="xml",
            weights_suffix="bin",
            about="OpenVINO on any CPU",
            builds_without_gpu=True,
            by_default=False,
        ),
        Target(
            name="rtx",
            kind="tensorrt",
            module="tensorrt_rtx",
            distribution="tensorrt-rtx-cu13",
            install="pip install 'swin-deploy[rtx]'",
            precisions=("fp16", "bf16", "int8"),
            suffix="plan",
            about="TensorRT-RTX for RTX GPUs of the Ampere generation or newer",
            builds_without_gpu=True,
        ),
        # NVIDIA's TensorRT-RTX support matrix (1.5) has these compute capabilities, each with a GPU
        # of the series as its example, and neither BF16 nor INT8 for Turing; the members of the
        # library's ComputeCapability (1.7) name the architectures.
        _rtx(20, "Turing", "7.5", precisions=("fp16",)),  # example RTX 2080 Ti
        _rtx(30, "Ampere", "8.6"),  # RTX 3090
        _rtx(40, "Ada Lovelace", "8.9"),  # RTX 4090
        _rtx(50, "Blackwell", "12.0"),  # RTX 5090
        Target(
            name="tensorrt",
            kind="tensorrt",
            module="tensorrt",
            distribution="tensorrt",
            install="pip install 'swin-deploy[tensorrt]'; on a Jetson it comes with JetPack",
            precisions=("fp16", "bf16", "int8"),
            suffix="plan",
            about="TensorRT 10.3 to 11 for the GPU of this machine",
            builds_without_gpu=False,
        ),
    )
}


DEFAULT_TARGETS: tuple[Target, ...] = tuple(t for t in TARGETS.values() if t.by_default)


def find_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        ConfigError: There is none; names the nearest ones.
    """
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(name, TARGETS, n=2, cutoff=0.4)
    raise ConfigError(f"unknown target {name!r}", " or ".join(near or TARGETS))


def auto_precisions(names: Sequence[str], calibrated: bool) -> tuple[Precision, ...]:
    """The precisions among which one is chosen for the user.

    Args:
        names: Of targets; empty for the default ones.
        calibrated: Whether there are images for INT8.

    Raises:
        ConfigError: A target is unknown.
    """
    targets = [find_target(name) for name in names] or DEFAULT_TARGETS
    # BF16 is for networks that FP16 cannot hold, which the gate finds: as fast, and less exact.
    wanted = {p for target in targets for p in target.precisions if p != "bf16"}
    return tuple(p for p in PRECISIONS if p in wanted and (calibrated or p != "int8"))
