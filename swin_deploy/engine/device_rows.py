"""Rows of the table of targets: GPUs whose engines TensorRT builds on the device itself."""

from __future__ import annotations

from typing import Any

from swin_deploy.engine.options import BuilderSettings
from swin_deploy.engine.target import JETPACK_OPTIONS, TENSORRT_OPTIONS, Target
from swin_deploy.precisions import Precision

AHEAD: tuple[Precision, ...] = ("fp16", "bf16", "int8")
FUSION = "docs/fusion.md: kernels and bytes of the forms of attention, TensorRT-RTX 1.7"
_CHIPS = "NVIDIA, CUDA GPU Compute Capability"
_OPSET = (
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
        sources=(f"{_CHIPS}: {capability}", _OPSET, _PORTABLE, FUSION, *sources),
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
