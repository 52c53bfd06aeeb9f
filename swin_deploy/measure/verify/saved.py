"""Outputs of one machine in a file, to be compared with those of another."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import atomic_path, require_plain_file
from swin_deploy.core.records import parse_json
from swin_deploy.data.images import InputSet
from swin_deploy.data.npy import read_any_header
from swin_deploy.data.sources import open_archive
from swin_deploy.network.judge import FloatArray

SCHEMA_VERSION = 1
HEADER = "header"
MAX_BYTES = 4 * 2**30  # of all arrays, unpacked
MAX_HEADER_BYTES = 2**20
_HINT = "swin-deploy verify RUN --save FILE.npz"
_DTYPES: set[np.dtype[Any]] = {np.dtype("<f4"), np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class SavedOutputs:
    """What one machine gave.

    Attributes:
        header: "run" (digest of the network and its weights), "network", "machine", and "sides":
            name -> precision and sha256 of the graph.
        inputs: What it was given.
        outputs: Candidate -> outputs by name, for each of the inputs.
    """

    header: dict[str, Any]
    inputs: list[InputSet]
    outputs: dict[str, list[dict[str, FloatArray]]]


def require_npz(path: Path) -> None:
    """Check the name of a file to write.

    Raises:
        ConfigError: It does not end with ``.npz``.
    """
    if path.suffix.lower() != ".npz":
        raise ConfigError(f"{path} does not end with .npz", "--save outputs.npz")


def save_outputs(
    path: Path,
    header: Mapping[str, Any],
    inputs: list[InputSet],
    outputs: Mapping[str, list[Mapping[str, FloatArray]]],
) -> None:
    """Write inputs and outputs, packed, whole or not at all.

    Args:
        path: Ends with ``.npz``.
        header: JSON-able; see ``SavedOutputs``.
        inputs: What every side was given.
        outputs: Candidate -> outputs by name, for each of ``inputs``.
    """
    names = [{"name": images.name, "natural": images.natural} for images in inputs]
    sides = {
        side: info | {"outputs": list(outputs[side][0])} for side, info in header["sides"].items()
    }
    whole = {**header, "schema_version": SCHEMA_VERSION, "inputs": names, "sides": sides}
    text = json.dumps(whole).encode()
    arrays: dict[str, NDArray[Any]] = {HEADER: np.frombuffer(text, dtype=np.uint8)}
    for index, images in enumerate(inputs):
        arrays[f"input.{index}"] = images.images
        for side, given in outputs.items():
            for name, array in given[index].items():
                arrays[f"output.{index}.{side}.{name}"] = array
    with atomic_path(path) as scratch, scratch.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def read_outputs(path: Path) -> SavedOutputs:
    """Read what ``save_outputs`` wrote, from anybody's hands."""
    with _opened(path) as (archive, header):
        try:
            return _read_arrays(archive, path, header)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(f"{path}: its header is incomplete: {error!r}", _HINT) from error


def require_saved(path: Path) -> None:
    """Check that ``read_outputs`` may read a file, as far as its header tells."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """The archive and its header, for the block."""
    require_plain_file(path, "saved outputs")
    with open_archive(path, _HINT) as archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > MAX_BYTES:
            raise InputError(f"{path} unpacks to {total} bytes, and {MAX_BYTES} is the most", _HINT)
        yield archive, _read_header(archive, path)


def _read_header(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if f"{HEADER}.npy" not in archive.namelist():
        raise InputError(f"{path} has no {HEADER}: it was not saved by this command", _HINT)
    content = _read(archive, path, HEADER, {np.dtype("u1")}, MAX_HEADER_BYTES)
    header = parse_json(content.tobytes(), f"the header of {path}", _HINT, finite=False)
    version = header.get("schema_version") if isinstance(header, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has version {version}, not {SCHEMA_VERSION}", _HINT)
    return dict(header)


def _read_arrays(archive: zipfile.ZipFile, path: Path, header: dict[str, Any]) -> SavedOutputs:
    inputs: list[InputSet] = []
    outputs: dict[str, list[dict[str, FloatArray]]] = {side: [] for side in header["sides"]}
    for index, said in enumerate(header["inputs"]):
        images = _read(archive, path, f"input.{index}")
        if images.ndim != 4 or images.dtype != np.float32 or not np.isfinite(images).all():
            raise InputError(f"{path}: input.{index} is no batch of finite images", _HINT)
        inputs.append(InputSet(str(said["name"]), images, bool(said["natural"])))
        for side, info in header["sides"].items():
            given = {}
            for name in info["outputs"]:
                array = _read(archive, path, f"output.{index}.{side}.{name}")
                if array.ndim < 2 or len(array) != len(images):
                    raise InputError(
                        f"{path}: output.{index}.{side}.{name} has the shape {array.shape}, for "
                        f"{len(images)} images",
                        _HINT,
                    )
                given[str(name)] = array
            outputs[side].append(given)
    if not inputs or not outputs:
        raise InputError(f"{path} holds no {'outputs' if inputs else 'inputs'}", _HINT)
    return SavedOutputs(header, inputs, outputs)


def _read(
    archive: zipfile.ZipFile,
    path: Path,
    name: str,
    dtypes: set[np.dtype[Any]] = _DTYPES,
    most: int = MAX_BYTES,
) -> NDArray[Any]:
    """One array, of just the bytes that its header says."""
    label, member = f"{path}[{name}]", f"{name}.npy"
    if member not in archive.namelist():
        raise InputError(f"{path} lacks {name}", _HINT)
    with archive.open(member) as stream:
        shape, dtype = read_any_header(stream, label, _HINT)
        if dtype not in dtypes:
            raise InputError(f"{label} is {dtype}, not {', '.join(map(str, dtypes))}", _HINT)
        size = math.prod(shape) * dtype.itemsize
        if not 0 < size <= most or min(shape, default=1) < 1:
            raise InputError(f"{label} has the shape {shape}: {size} bytes", _HINT)
        content = stream.read(size + 1)  # to the end of the member: there its checksum is compared
    if len(content) != size:
        raise InputError(f"{label} has another size than its header says, {size} bytes", _HINT)
    return np.frombuffer(bytearray(content), dtype=dtype).reshape(shape)  # one that can be written
