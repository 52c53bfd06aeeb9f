"""NVIDIA's driver library through ctypes: whatever machine can run an engine has it.

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

from swin_deploy.errors import EnvironmentMissingError, ResourceError

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
