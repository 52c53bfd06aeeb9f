"""The GPU through its driver: memory, streams, graphs and clocks, in ctypes and numpy. No torch.

Everything is on the first GPU, in its primary context, which is the one that TensorRT and PyTorch
use. Like theirs it stays until the process ends: what they keep in it may outlive a runner.

Names and types are those of ``cuda.h``; a test holds them against NVIDIA's own bindings. Of a
function with versions this is the newest that the driver of JetPack 6 (CUDA 12.6) has.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulonglong,
    c_void_p,
)
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import EnvironmentMissingError, ResourceError

LIBRARY = "libcuda.so.1"

# Values of cuda.h's enums and defines.
SUCCESS, OUT_OF_MEMORY = 0, 2  # CUresult
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
STREAM_NON_BLOCKING = 1  # CUstream_flags
CAPTURE_THREAD_LOCAL = 1  # CUstreamCaptureMode
EVENT_DEFAULT = 0  # CUevent_flags
HOST_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE

_HANDLE = c_void_p  # CUcontext, CUstream, CUevent, CUgraph, CUgraphExec
_DEVICE = c_int  # CUdevice
_ADDRESS = c_uint64  # CUdeviceptr, of 64 bits on every 64-bit platform
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(_DEVICE), c_int),
    "cuDeviceGetName": (c_char_p, c_int, _DEVICE),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, _DEVICE),
    "cuDevicePrimaryCtxRetain": (POINTER(_HANDLE), _DEVICE),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_ADDRESS), c_size_t),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, c_void_p, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _ADDRESS, c_size_t, _HANDLE),
    "cuStreamCreate": (POINTER(_HANDLE), c_uint),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, POINTER(_HANDLE)),
    "cuGraphInstantiateWithFlags": (POINTER(_HANDLE), _HANDLE, c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
    "cuEventCreate": (POINTER(_HANDLE), c_uint),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventSynchronize": (_HANDLE,),
    "cuEventElapsedTime": (POINTER(c_float), _HANDLE, _HANDLE),
    "cuEventDestroy_v2": (_HANDLE,),
}


def open_library(path: str) -> Any:
    """The library with the types of every function declared: an undeclared pointer loses 32 bits.

    Raises:
        OSError: There is no such library.
        AttributeError: It lacks one of the functions.
    """
    library = ctypes.CDLL(path)
    for name, arguments in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    return library


@cache
def find_driver() -> tuple[Any, str | None]:
    """The driver, started, with None; or None with the reason why it cannot be used."""
    try:
        library = open_library(LIBRARY)
    except OSError as error:
        return None, f"no NVIDIA GPU, or no driver for it: {error}"
    except AttributeError as error:
        return None, f"no NVIDIA GPU that can be used, the driver is too old: {error}"
    if status := library.cuInit(0):
        return None, f"no NVIDIA GPU that CUDA can use ({_name(library, status)})"
    return library, None


def call(name: str, *arguments: Any) -> None:
    """Call one of ``FUNCTIONS``.

    Raises:
        ResourceError: The GPU, or memory that it can reach, is used up.
        EnvironmentMissingError: There is no driver, or any other error of CUDA.
    """
    library, problem = find_driver()
    if problem is not None:
        raise EnvironmentMissingError(problem, "swin-deploy doctor")
    status = getattr(library, name)(*arguments)
    if status == OUT_OF_MEMORY:
        raise ResourceError("the GPU is out of memory", "a smaller batch")
    if status != SUCCESS:
        problem = f"CUDA failed: {_name(library, status)} from {name}"
        raise EnvironmentMissingError(problem, "start again; if it stays, swin-deploy doctor")


def made(kind: Any, name: str, *arguments: Any) -> Any:
    """What a function writes to where its first argument points, as a Python number."""
    result = kind()
    call(name, byref(result), *arguments)
    return result.value


def _name(library: Any, status: int) -> str:
    text = c_char_p()
    library.cuGetErrorName(status, byref(text))  # leaves NULL for a status that it does not know
    return text.value.decode() if text.value else f"error {status}"


def device_problem() -> str | None:
    """Why no NVIDIA GPU can be used here; None if one can."""
    if (problem := find_driver()[1]) is not None:
        return problem
    return None if made(c_int, "cuDeviceGetCount") else "no NVIDIA GPU"


@cache
def _first() -> int:
    return int(made(c_int, "cuDeviceGet", 0))


def device_name() -> str:
    """Name and compute capability of the first GPU, as "NVIDIA A10, sm_86"."""
    return f"{plain_name()}, sm_{device_compute_capability().replace('.', '')}"


def plain_name() -> str:
    """Its name alone, as "NVIDIA A10"."""
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), _first())
    return name.value.decode()


def device_compute_capability() -> str:
    """Of the first GPU, as "8.6"."""
    attributes = (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR)
    parts = [made(c_int, "cuDeviceGetAttribute", a, _first()) for a in attributes]
    return ".".join(map(str, parts))


def driver_version() -> str:
    """The newest CUDA that the driver can serve, as "12.6"."""
    version = made(c_int, "cuDriverGetVersion")
    return f"{version // 1000}.{version % 1000 // 10}"


def device_memory() -> tuple[int, int]:
    """Bytes of the GPU's memory that are free, and all of them."""
    use_device()
    total = c_size_t()
    free = made(c_size_t, "cuMemGetInfo_v2", ctypes.byref(total))
    return int(free), total.value


@cache
def _primary_context() -> int:
    return int(made(c_void_p, "cuDevicePrimaryCtxRetain", _first()))


def use_device() -> None:
    """Make the GPU that of the calling thread; each thread needs it before its first other call."""
    call("cuCtxSetCurrent", _primary_context())


class DeviceBuffer:
    """Device memory of a given size."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.pointer = int(made(c_uint64, "cuMemAlloc_v2", size_bytes))

    def upload(self, array: NDArray[Any], stream: Stream) -> None:
        """Copy ``array``, contiguous, to the device; it has to stay until the stream is done."""
        self._check(array)
        pointer = array.ctypes.data
        call("cuMemcpyHtoDAsync_v2", self.pointer, pointer, array.nbytes, stream.handle)

    def download(self, array: NDArray[Any], stream: Stream) -> None:
        """Fill ``array``, contiguous, from the device; it is full when the stream is done."""
        self._check(array)
        pointer = array.ctypes.data
        call("cuMemcpyDtoHAsync_v2", pointer, self.pointer, array.nbytes, stream.handle)

    def _check(self, array: NDArray[Any]) -> None:
        if array.nbytes > self.size_bytes or not array.flags.c_contiguous:
            raise ValueError(f"{array.nbytes} bytes do not fit {self.size_bytes}, or have gaps")

    def free(self) -> None:
        """Give the memory back."""
        call("cuMemFree_v2", self.pointer)


class PinnedBuffer:
    """Host memory that stays where it is, so that copies need no detour and no waiting.

    Attributes:
        array: All of it, with the shape and dtype that were asked for.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        used = int(np.prod(shape)) * dtype.itemsize
        size, flags = max(1, used), HOST_PORTABLE
        self.pointer = int(made(c_void_p, "cuMemHostAlloc", size, flags))
        memory = (ctypes.c_ubyte * size).from_address(self.pointer)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory)[:used].view(dtype).reshape(shape)

    def free(self) -> None:
        """Give the memory back; ``array`` must not be used any more."""
        self.array = np.empty(0)
        call("cuMemFreeHost", self.pointer)


class Stream:
    """A queue of the GPU that does not wait for others.

    Attributes:
        handle: As TensorRT takes it.
    """

    def __init__(self) -> None:
        flags = STREAM_NON_BLOCKING
        self.handle = int(made(c_void_p, "cuStreamCreate", flags))

    def wait(self) -> None:
        """Block until everything on it is done."""
        call("cuStreamSynchronize", self.handle)

    def begin_capture(self) -> None:
        """Record what this thread sends from now on instead of doing it."""
        call("cuStreamBeginCapture_v2", self.handle, CAPTURE_THREAD_LOCAL)

    def end_capture(self) -> Graph:
        """What was recorded.

        Raises:
            EnvironmentMissingError: Something in it cannot be recorded; the stream is as before.
        """
        recorded = c_void_p()
        call("cuStreamEndCapture", self.handle, ctypes.byref(recorded))
        return Graph(recorded)

    def free(self) -> None:
        """Give it back."""
        call("cuStreamDestroy_v2", self.handle)


class Graph:
    """What a stream recorded, ready to be launched as one; the addresses in it are fixed."""

    def __init__(self, recorded: c_void_p) -> None:
        try:
            name = "cuGraphInstantiateWithFlags"
            self._handle = int(made(c_void_p, name, recorded, 0))
        finally:
            call("cuGraphDestroy", recorded)

    def launch(self, stream: Stream) -> None:
        """Do all of it on a stream."""
        call("cuGraphLaunch", self._handle, stream.handle)

    def free(self) -> None:
        """Give it back."""
        call("cuGraphExecDestroy", self._handle)


class Event:
    """A moment on a stream."""

    def __init__(self) -> None:
        self._handle = int(made(c_void_p, "cuEventCreate", EVENT_DEFAULT))

    def record(self, stream: Stream) -> None:
        """The moment when everything sent to the stream so far is done."""
        call("cuEventRecord", self._handle, stream.handle)

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds between two moments, by the GPU's clock of half a microsecond; waits."""
        call("cuEventSynchronize", self._handle)
        name = "cuEventElapsedTime"
        return float(made(c_float, name, earlier._handle, self._handle))

    def free(self) -> None:
        """Give it back."""
        call("cuEventDestroy_v2", self._handle)
