"""Our table of the driver's functions against NVIDIA's, and our calls through a library in C.

No GPU is needed, and none is imitated: the library moves bytes about and writes down what it was
called with, to see that ctypes hands every pointer, size and float over whole.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swin_deploy.core.errors import EnvironmentMissingError, ResourceError
from swin_deploy.engine.runners import cuda
from swin_deploy.engine.runners import cuda as driver

MADE = 0xFEDCBA9876543210  # what the library gives for every handle
C_TYPES = {
    "int": ctypes.c_int,
    "float": ctypes.c_float,
    "size_t": ctypes.c_size_t,
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "CUresult": ctypes.c_int,
    "CUdevice": ctypes.c_int,
    "CUdevice_attribute": ctypes.c_int,
    "CUstreamCaptureMode": ctypes.c_int,
    "CUdeviceptr": ctypes.c_uint64,
    "char*": ctypes.c_char_p,
    "void*": ctypes.c_void_p,
    **dict.fromkeys(
        ("CUcontext", "CUstream", "CUevent", "CUgraph", "CUgraphExec"), ctypes.c_void_p
    ),
}
# Functions of which we take an older version than there is: the newest is not in CUDA 12.6.
OLDER = ("cuEventElapsedTime",)


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def declared() -> dict[str, list[str]]:
    """NVIDIA's declarations: function -> the C types of its arguments."""
    text = (package_folder("cuda.bindings") / "cydriver.pxd").read_text()
    found = re.findall(r"^cdef CUresult (cu\w+)\((.*?)\) except", text, re.MULTILINE)
    return {
        name: [re.sub(r"\bconst |\s*\w+$", "", argument.strip()) for argument in inside.split(",")]
        for name, inside in found
    }


def as_ctypes(text: str) -> Any:
    if text in C_TYPES:
        return C_TYPES[text]
    assert text.endswith("*"), text
    return ctypes.POINTER(as_ctypes(text[:-1]))


def differences(functions: dict[str, tuple[Any, ...]]) -> list[str]:
    theirs = declared()
    theirs["cuGraphInstantiateWithFlags"] = theirs["cuGraphInstantiate"]  # cuda.h renames it
    return [
        name
        for name, arguments in functions.items()
        if list(arguments) != [as_ctypes(text) for text in theirs[re.sub(r"_v\d$", "", name)]]
    ]


def test_every_function_is_declared_as_nvidia_does() -> None:
    assert not differences(driver.FUNCTIONS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cuMemFree_v2", (ctypes.c_uint,)),
        ("cuMemAlloc_v2", (ctypes.POINTER(ctypes.c_uint64),)),
        ("cuEventElapsedTime", (ctypes.POINTER(ctypes.c_double), *[ctypes.c_void_p] * 2)),
    ],
)
def test_a_wrong_declaration_is_seen(name: str, arguments: tuple[Any, ...]) -> None:
    assert differences(driver.FUNCTIONS | {name: arguments}) == [name]


def test_numbers_are_those_of_nvidia() -> None:
    from cuda.bindings import driver as nvidia

    attribute = nvidia.CUdevice_attribute
    pairs = (
        (nvidia.CUresult.CUDA_SUCCESS, driver.SUCCESS),
        (nvidia.CUresult.CUDA_ERROR_OUT_OF_MEMORY, driver.OUT_OF_MEMORY),
        (attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, driver.COMPUTE_CAPABILITY_MAJOR),
        (attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, driver.COMPUTE_CAPABILITY_MINOR),
        (nvidia.CUstream_flags.CU_STREAM_NON_BLOCKING, driver.STREAM_NON_BLOCKING),
        (
            nvidia.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            driver.CAPTURE_THREAD_LOCAL,
        ),
        (nvidia.CUevent_flags.CU_EVENT_DEFAULT, driver.EVENT_DEFAULT),
        (nvidia.CU_MEMHOSTALLOC_PORTABLE, driver.HOST_PORTABLE),
    )
    assert [int(theirs) for theirs, _ in pairs] == [ours for _, ours in pairs]


def versions_missed(names: list[str]) -> list[str]:
    """Names that NVIDIA's library does not ask the driver for, or asks a newer version of."""
    library = package_folder("tensorrt_rtx_libs") / "libtensorrt_rtx.so.1"
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = {match.decode() for match in re.findall(rb"cu[A-Z]\w+(?=\0)", text)}
    newer = {name for name in names if f"{name}_v2" in found and name not in OLDER}
    return [name for name in names if name not in found or name in newer]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_libs") is None, reason="needs the rtx extra"
)
def test_names_have_the_versions_that_nvidias_library_calls() -> None:
    wrong = ["cuMemAlloc", "cuStreamEndCapture_v2"]  # of 32 bits; none such
    assert versions_missed([*driver.FUNCTIONS, *wrong]) == wrong


def seen(shim: Any, count: int) -> list[int]:
    return [shim.shim_seen(index) for index in range(count)]


def test_bytes_go_through_pinned_and_device_memory_and_back(shim: Any) -> None:
    sent = np.random.default_rng(0).standard_normal((3, 5, 7), dtype=np.float32)
    stream, device = cuda.Stream(), cuda.DeviceBuffer(sent.nbytes)
    there = cuda.PinnedBuffer(sent.shape, sent.dtype)
    back = cuda.PinnedBuffer(sent.shape, sent.dtype)
    there.array[:] = sent
    device.upload(there.array, stream)
    assert seen(shim, 4) == [device.pointer, there.pointer, sent.nbytes, MADE]
    device.download(back.array, stream)
    assert seen(shim, 4) == [back.pointer, device.pointer, sent.nbytes, MADE]
    assert np.array_equal(back.array, sent)
    for buffer in (device, there, back):
        pointer = buffer.pointer
        buffer.free()
        assert shim.shim_seen(0) == pointer


def test_pointers_have_more_than_32_bits(shim: Any) -> None:
    device = cuda.DeviceBuffer(1 << 26)  # a block of its own, far from the heap
    assert device.pointer >> 32
    assert shim.shim_seen(0) == 1 << 26
    device.free()
    assert shim.shim_seen(0) == device.pointer


def test_what_does_not_fit_is_not_copied(shim: Any) -> None:
    device, stream = cuda.DeviceBuffer(16), cuda.Stream()
    for array in (np.zeros(5, np.float32), np.zeros((2, 4), np.float32)[:, :2]):
        with pytest.raises(ValueError, match="fit"):
            device.upload(array, stream)
    device.free()


def test_handles_arrive_whole(shim: Any) -> None:
    cuda.use_device()
    assert shim.shim_seen(0) == MADE
    stream = cuda.Stream()
    assert shim.shim_seen(0) == driver.STREAM_NON_BLOCKING
    assert stream.handle == MADE
    stream.wait()
    stream.begin_capture()
    assert seen(shim, 2) == [MADE, driver.CAPTURE_THREAD_LOCAL]
    graph = stream.end_capture()
    graph.launch(stream)
    assert seen(shim, 2) == [MADE, MADE]
    graph.free()
    first, second = cuda.Event(), cuda.Event()
    first.record(stream)
    assert seen(shim, 2) == [MADE, MADE]
    shim.shim_set_milliseconds(1.5)
    assert second.ms_since(first) == 1.5
    for thing in (first, second, stream):
        thing.free()
        assert shim.shim_seen(0) == MADE


def test_what_the_driver_says_of_the_device(shim: Any) -> None:
    assert cuda.device_problem() is None
    assert cuda.device_name() == "a name, sm_87"
    assert cuda.device_compute_capability() == "8.7"
    assert cuda.driver_version() == "12.6"
    shim.shim_set_memory(0x123456789A, 0x23456789AB)
    assert cuda.device_memory() == (0x123456789A, 0x23456789AB)
    shim.shim_set_device(0, 0, 0, 12060, b"")
    assert cuda.device_problem() == "no NVIDIA GPU"


@pytest.mark.fault(36)
def test_errors_are_typed(shim: Any) -> None:
    cuda.use_device()
    shim.shim_set_status(driver.OUT_OF_MEMORY)
    with pytest.raises(ResourceError, match="out of memory; try: a smaller batch"):
        cuda.DeviceBuffer(16)
    with pytest.raises(ResourceError, match="out of memory"):
        cuda.PinnedBuffer((4,), np.dtype(np.float32))
    shim.shim_set_status(700)
    with pytest.raises(EnvironmentMissingError, match="CUDA_ERROR_ILLEGAL_ADDRESS from cuCtx"):
        cuda.use_device()
    shim.shim_set_status(4711)
    with pytest.raises(EnvironmentMissingError, match="error 4711"):
        cuda.use_device()


def test_a_driver_that_does_not_start_says_why(shim: Any) -> None:
    shim.shim_set_status(700)
    problem = "no NVIDIA GPU that CUDA can use (CUDA_ERROR_ILLEGAL_ADDRESS)"
    assert cuda.device_problem() == problem
    with pytest.raises(EnvironmentMissingError, match="no NVIDIA GPU that CUDA can use"):
        cuda.use_device()


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    ("source", "reason"), [(None, "no NVIDIA GPU, or no driver"), ("", "too old")]
)
def test_no_driver_or_an_old_one_says_why(
    source: str | None, reason: str, shim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libcuda.so.1"
    if source is not None:
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source.encode(), check=True)
    monkeypatch.setattr(driver, "LIBRARY", str(path))
    driver.find_driver.cache_clear()
    assert reason in str(cuda.device_problem())
