"""What is on this machine, each with its version or the reason why it cannot be used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.runners import cuda

Found = tuple[str, dict[str, Any], None]


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
    return f"{cuda.device_name()}, driver for CUDA {cuda.driver_version()}, {gib}", {}, None


def find_torch() -> Found:
    """PyTorch, and whether it has a GPU."""
    torch = import_library("torch")
    if not torch.cuda.is_available():
        return f"{torch.__version__}, for the CPU alone: {_why_no_cuda(torch)}", {}, None
    return f"{torch.__version__}, CUDA {torch.version.cuda}", {}, None


def require_torch_cuda() -> None:
    """Check that PyTorch can compute on the GPU.

    Raises:
        EnvironmentMissingError: It is not here, or cannot.
    """
    torch = import_library("torch")
    if not torch.cuda.is_available():
        raise EnvironmentMissingError(f"PyTorch {torch.__version__}: {_why_no_cuda(torch)}")


def _why_no_cuda(torch: Any) -> str:
    return "built without CUDA" if torch.version.cuda is None else "it finds no GPU"


def find_onnxruntime() -> Found:
    """ONNX Runtime and its execution providers."""
    runtime = import_library("onnxruntime")
    return f"{runtime.__version__}: {', '.join(runtime.get_available_providers())}", {}, None


def find_library(module: str) -> Callable[[], Found]:
    """Looks for a library and its version."""

    def find() -> Found:
        return str(import_library(module).__version__), {}, None

    return find


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
