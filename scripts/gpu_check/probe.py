"""What is on this machine, each with its version or the reason why it cannot be used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.engine.runners import cuda

Found = tuple[str, dict[str, Any]]
NEEDED = (
    *("click", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "PIL", "pydantic", "rich"),
    *("safetensors", "scipy", "torch"),
)


def require_gpu() -> None:
    """Check that the driver has a GPU.

    Raises:
        EnvironmentMissingError: It has none, or there is no driver.
    """
    if (problem := cuda.device_problem()) is not None:
        raise EnvironmentMissingError(problem)


def find_gpu() -> Found:
    """The GPU and its driver."""
    require_gpu()
    free, total = cuda.device_memory()
    gib = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return f"{cuda.device_name()}, driver for CUDA {cuda.driver_version()}, {gib}", {}


def find_torch() -> Found:
    """PyTorch, and whether it has a GPU."""
    torch = import_library("torch")
    if not torch.cuda.is_available():
        why = "built without CUDA" if torch.version.cuda is None else "it finds no GPU"
        return f"{torch.__version__}, for the CPU alone: {why}", {}
    return f"{torch.__version__}, CUDA {torch.version.cuda}", {}


def find_onnxruntime() -> Found:
    """ONNX Runtime and its execution providers."""
    runtime = import_library("onnxruntime")
    return f"{runtime.__version__}: {', '.join(runtime.get_available_providers())}", {}


def find_library(module: str) -> Callable[[], Found]:
    """Looks for a library and its version."""

    def find() -> Found:
        return str(import_library(module).__version__), {}

    return find


def require_libraries() -> Found:
    """Look for what the commands cannot do without, and import none of it.

    Raises:
        EnvironmentMissingError: Something is not installed.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise EnvironmentMissingError(f"not installed: {', '.join(missing)}")
    return "all here", {}


def import_library(module: str) -> Any:
    """A library that need not be here.

    Raises:
        EnvironmentMissingError: It is not, or lacks a shared library.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise EnvironmentMissingError(f"cannot import {module}: {error}") from error


PROBES: dict[str, Callable[[], Found]] = {
    "GPU": find_gpu,
    "torch": find_torch,
    "tensorrt": find_library("tensorrt"),
    "tensorrt_rtx": find_library("tensorrt_rtx"),
    "onnxruntime": find_onnxruntime,
}
