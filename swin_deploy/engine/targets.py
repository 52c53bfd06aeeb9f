"""The table of targets: what an engine can be built for, and what that takes. A row for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from swin_deploy.core.errors import ConfigError, nearest
from swin_deploy.engine.here import describe_device
from swin_deploy.engine.options import BuilderSettings
from swin_deploy.engine.target import (
    HERE,
    JETPACK_OPTIONS,
    RTX_OPTIONS,
    TENSORRT_OPTIONS,
    Target,
    row_of,
)
from swin_deploy.network.interface import PRECISIONS, Precision

AHEAD: tuple[Precision, ...] = ("fp16", "bf16", "int8")
FUSION = "docs/fusion.md: kernels and bytes of the forms of attention, TensorRT-RTX 1.7"
_CHIPS = "NVIDIA, CUDA GPU Compute Capability"
_DEVICE_OPSET = (
    "onnx-tensorrt, docs/operators.md of 10.0: opsets 9 to 20; kept for newer versions, with "
    "which everything here was measured at 20"
)
_PORTABLE = "TensorRT support matrix 11.4.1, Engine Portability: none across platforms or GPUs"
_SHARED = "NVIDIA Jetson: the GPU shares the memory of the CPU, so a workspace of 2 GiB is the cap"
_JETPACK = "JetPack release notes: versions of TensorRT"


def _device(name: str, capability: str, about: str, *sources: str, **more: Any) -> Target:
    columns: dict[str, Any] = {
        "install": "pip install tensorrt",
        "precisions": AHEAD,
        "batch": "many",
        "gpu": name,
        "options": TENSORRT_OPTIONS,
    }
    return Target(
        name=name,
        kind="tensorrt",
        module="tensorrt",
        distribution="tensorrt",
        suffix="plan",
        about=about,
        builds_without_gpu=False,
        by_default=False,
        compute_capability=capability,
        forms=("slabs", "packed"),
        sources=(f"{_CHIPS}: {capability}", _DEVICE_OPSET, _PORTABLE, FUSION, *sources),
        **columns | more,
    )


def _jetson(name: str, capability: str, about: str, *versions: str) -> Target:
    return _device(
        *(name, capability, about, _JETPACK, _SHARED),
        install="it comes with JetPack: sudo apt install nvidia-jetpack",
        platform="linux-aarch64",
        versions=versions,
        batch="one",
        options=JETPACK_OPTIONS,
        builder=BuilderSettings(workspace_bytes=2 << 30),
    )


def _server(name: str, capability: str, about: str, *devices: str, **more: Any) -> Target:
    return _device(name, capability, about, devices=devices, **more)


DEVICE_ROWS: tuple[Target, ...] = (
    _jetson(
        *("jetson-orin", "8.7", "Jetson AGX Orin, Orin NX and Orin Nano"),
        *("10.3 (JetPack 6)", "10.16 (JetPack 7.2)", "11.4.1 (JetPack 7.2.2)"),
    ),
    _jetson(
        *("jetson-thor", "11.0", "Jetson AGX Thor"),
        *("10.13 (JetPack 7.0)", "10.16 (JetPack 7.2)", "11.4.1 (JetPack 7.2.2)"),
    ),
    # Tensor cores of Turing have no BF16: TensorRT support matrix, "Hardware and Precision".
    _server("t4", "7.5", "NVIDIA T4", "T4", precisions=("fp16", "int8")),
    _server("a10", "8.6", "NVIDIA A10", "A10", "A10G"),
    _server("a100", "8.0", "NVIDIA A100", "A100"),
    _server("l4", "8.9", "NVIDIA L4", "L4"),
    _server("l40s", "8.9", "NVIDIA L40S", "L40S"),
    _server("h100", "9.0", "NVIDIA H100", "H100"),
    _server("h200", "9.0", "NVIDIA H200", "H200"),
    _server("b200", "10.0", "NVIDIA B200", "B200"),
)

# What the measured times of CPUs and the files of their runtimes say.
_CPU_FORMS = "docs/fusion.md: times of the forms of attention on a CPU"
_OPSET = "opset 20, with which everything was measured: it has LayerNormalization and Gelu"
_RTX_MATRIX = (
    "TensorRT-RTX support matrix 1.5: compute capabilities 7.5, 8.6, 8.9 and 12.0, each with a GPU "
    "of its series; neither BF16 nor INT8 on Turing; plans that name no GPU are for 8.6, 8.9, 12.0"
)


def _rtx(name: str, about: str, **more: Any) -> Target:
    """TensorRT-RTX, whose compiler needs none of the GPUs that it compiles for."""
    columns: dict[str, Any] = {
        "precisions": AHEAD,
        "sources": (_RTX_MATRIX, _OPSET, FUSION),
        "devices": ("RTX",),
    }
    return Target(
        name=name,
        kind="tensorrt",
        module="tensorrt_rtx",
        distribution="tensorrt-rtx-cu13",
        install="pip install tensorrt-rtx-cu13",
        suffix="plan",
        about=about,
        builds_without_gpu=True,
        forms=("slabs", "packed"),
        options=RTX_OPTIONS,
        **columns | more,
    )


def _series(number: int, chips: str, compute_capability: str, **more: Any) -> Target:
    return _rtx(
        f"rtx-{number}",
        f"TensorRT-RTX for the RTX {number} series alone: {chips}",
        compute_capability=compute_capability,
        by_default=False,
        **more,
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
            sources=(_CPU_FORMS, _OPSET, "docs/int8.md: INT8 on a CPU"),
        ),
        Target(
            name="cpu-openvino",
            kind="openvino",
            module="openvino",
            distribution="openvino",
            install="pip install openvino",
            # A CPU without FP16 arithmetic computes FP16 graphs in BF16: not what was verified.
            precisions=("fp32", "bf16", "int8"),
            suffix="xml",
            weights_suffix="bin",
            about="OpenVINO on any CPU",
            builds_without_gpu=True,
            by_default=False,
            sources=(_CPU_FORMS, _OPSET, "docs/int8.md: INT8 on a CPU"),
        ),
        _rtx(
            *("rtx", "TensorRT-RTX for RTX GPUs of the Ampere generation or newer"),
            runs_on=("8.6", "8.9", "12.0"),
        ),
        _series(20, "Turing", "7.5", precisions=("fp16",)),
        _series(30, "Ampere", "8.6", gpu="rtx-3090"),
        _series(40, "Ada Lovelace", "8.9", gpu="rtx-4090"),
        _series(50, "Blackwell", "12.0", gpu="rtx-5090"),
        Target(
            name="tensorrt",
            kind="tensorrt",
            module="tensorrt",
            distribution="tensorrt",
            install="pip install tensorrt; on a Jetson it comes with JetPack",
            precisions=AHEAD,
            suffix="plan",
            about="TensorRT 10.3 to 11 for the GPU of this machine",
            builds_without_gpu=False,
            forms=("slabs", "packed"),
            options=TENSORRT_OPTIONS,
            sources=(_OPSET, FUSION),
        ),
        *DEVICE_ROWS,
    )
}


DEFAULT_TARGETS: tuple[Target, ...] = tuple(t for t in TARGETS.values() if t.by_default)


def find_target(name: str) -> Target:
    """The target called ``name``; of "here", the row that this machine is.

    Raises:
        ConfigError: There is none; names the nearest ones.
    """
    if name == HERE:
        return TARGETS[row_of(describe_device(), TARGETS.values())]
    if name in TARGETS:
        return TARGETS[name]
    raise ConfigError(f"unknown target {name!r}", " or ".join(nearest(name, [*TARGETS, HERE], 2)))


def find_targets(names: Iterable[str]) -> list[Target]:
    """The targets of these names, each once."""
    return list(dict.fromkeys(find_target(name) for name in names))


def auto_precisions(names: Sequence[str], calibrated: bool) -> tuple[Precision, ...]:
    """The precisions among which one is chosen for the user.

    Args:
        names: Of targets; empty for the default ones.
        calibrated: Whether there are images for INT8.
    """
    targets = find_targets(names) or DEFAULT_TARGETS
    # BF16 is for networks that FP16 cannot hold, which the gate finds: as fast, and less exact.
    wanted = {p for target in targets for p in target.precisions if p != "bf16"}
    return tuple(p for p in PRECISIONS if p in wanted and (calibrated or p != "int8"))
