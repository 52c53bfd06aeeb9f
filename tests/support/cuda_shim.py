"""The library of ``cuda_shim.c`` in the place of NVIDIA's driver, as pytest fixtures."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swin_deploy.engine.runners import cuda
from swin_deploy.engine.runners import cuda as driver


@pytest.fixture(scope="session")
def shim_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which makes the library that stands in")
    path = tmp_path_factory.mktemp("shim") / driver.LIBRARY
    source = Path(__file__).with_name("cuda_shim.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", source, "-o", path], check=True
    )
    return path


CACHES = (driver.find_driver, cuda._first, cuda._primary_context)


@pytest.fixture
def shim(shim_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library in the driver's place, with its questions for the test."""
    monkeypatch.setattr(driver, "LIBRARY", str(shim_path))
    for cached in CACHES:
        cached.cache_clear()
    library = ctypes.CDLL(str(shim_path))
    library.shim_seen.restype = ctypes.c_uint64
    library.shim_set_memory.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    library.shim_set_milliseconds.argtypes = (ctypes.c_float,)
    library.shim_set_device(1, 8, 7, 12060, b"a name")
    yield library
    library.shim_set_status(0)
    library.shim_set_device(0, 0, 0, 0, b"")
    for cached in CACHES:
        cached.cache_clear()
