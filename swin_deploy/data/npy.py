"""Arrays in ``.npy`` files, never as pickles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.core.own_files import open_plain
from swin_deploy.core.records import reading

_PICKLE = b"\x80"  # how a pickle of protocol 2 or later begins


def read_any_header(
    stream: IO[bytes], name: str, hint: str
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of the array that follows in ``stream``, of which nothing else is read."""
    first = stream.peek(1)[:1]  # type: ignore[attr-defined]
    if first == _PICKLE:
        raise UnsafeError(f"{name} is a pickle, which runs code when it is read", hint)
    with reading(name, "a NumPy array", hint):
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):  # the others are for long headers, which may be of any length
            raise InputError(f"{name} has version {version} of the format, not (1, 0)", hint)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise UnsafeError(f"{name} holds Python objects, which run code when they are read", hint)
    if fortran and math.prod(shape) > 1:
        raise InputError(f"{name} is in Fortran order", "np.ascontiguousarray before np.save")
    return shape, dtype


def read_npy(path: Path, most_bytes: int, hint: str) -> NDArray[Any]:
    """The array in a file.

    Args:
        path: Of at most ``most_bytes``.
        most_bytes: That may be read.
        hint: What to try where there is no such array.
    """
    with open_plain(path) as stream:
        shape, dtype = read_any_header(stream, str(path), hint)
        size = math.prod(shape) * dtype.itemsize
        if size > most_bytes:
            raise InputError(f"{path} has {size} bytes, and {most_bytes} is the most", hint)
        content = stream.read(size + 1)
    if len(content) != size:
        raise InputError(f"{path} is not as long as its header says: {shape} {dtype}", hint)
    return np.frombuffer(content, dtype=dtype).reshape(shape)
