"""The CUDA runtime through NVIDIA's own bindings: memory, copies, one stream. No torch."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from swin_deploy.errors import EnvironmentMissingError, ResourceError

_INSTALL = "pip install cuda-bindings"


def device_problem() -> str | None:
    """Why no NVIDIA GPU can be used here; None if one can."""
    if importlib.util.find_spec("cuda") is None:
        return f"cuda-bindings is not installed ({_INSTALL})"
    from cuda.bindings import runtime

    try:
        error, count = runtime.cudaGetDeviceCount()
    except RuntimeError as failure:  # the bindings found no CUDA runtime library to load
        return f"no CUDA runtime: {failure}"
    if error != runtime.cudaError_t.cudaSuccess:
        return f"no NVIDIA GPU that CUDA can use ({error.name})"
    return None if count else "no NVIDIA GPU"


def device_name() -> str:
    """Name and compute capability of the first GPU, as "NVIDIA A10, sm_86"."""
    from cuda.bindings import runtime

    properties = _checked(runtime.cudaGetDeviceProperties(0))
    return f"{properties.name.decode()}, sm_{properties.major}{properties.minor}"


def device_compute_capability() -> str:
    """Of the first GPU, as "8.6"."""
    from cuda.bindings import runtime

    properties = _checked(runtime.cudaGetDeviceProperties(0))
    return f"{properties.major}.{properties.minor}"


class DeviceBuffer:
    """Device memory that holds an array of up to a given size."""

    def __init__(self, size_bytes: int) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime
        self.pointer: int = int(_checked(runtime.cudaMalloc(size_bytes)))

    def upload(self, array: np.ndarray, stream: Any) -> None:
        """Copy ``array``, contiguous, to the device on ``stream``."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(
            self._runtime.cudaMemcpyAsync(
                self.pointer, array.ctypes.data, array.nbytes, kind, stream
            )
        )

    def download(self, array: np.ndarray, stream: Any) -> None:
        """Fill ``array``, contiguous, from the device on ``stream``."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _checked(
            self._runtime.cudaMemcpyAsync(
                array.ctypes.data, self.pointer, array.nbytes, kind, stream
            )
        )

    def free(self) -> None:
        """Give the memory back."""
        _checked(self._runtime.cudaFree(self.pointer))


def make_stream() -> Any:
    """A CUDA stream."""
    from cuda.bindings import runtime

    return _checked(runtime.cudaStreamCreate())


def wait_for(stream: Any) -> None:
    """Block until everything on ``stream`` is done."""
    from cuda.bindings import runtime

    _checked(runtime.cudaStreamSynchronize(stream))


def destroy_stream(stream: Any) -> None:
    """Give the stream back."""
    from cuda.bindings import runtime

    _checked(runtime.cudaStreamDestroy(stream))


def _checked(result: tuple[Any, ...]) -> Any:
    """The value behind CUDA's status.

    Raises:
        ResourceError: The GPU is out of memory.
        EnvironmentMissingError: Any other CUDA error.
    """
    status, *values = result
    if status.name == "cudaErrorMemoryAllocation":
        raise ResourceError("the GPU is out of memory", "a smaller batch")
    if status.name != "cudaSuccess":
        raise EnvironmentMissingError(f"CUDA failed: {status.name}", "swin-deploy doctor")
    return values[0] if values else None
