"""Files of ``torch.save`` -> what they hold, and the tensors in it, read off the mapped file."""

from __future__ import annotations

import io
import mmap
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.core.own_files import open_plain
from swin_deploy.network.checkpoints.pickles import STORED, Inert, Reader

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how files begin that are no zip archives
_LARGEST_PICKLE = 2**28  # bytes; tensors lie beside it
ZIP = b"PK\x03\x04"
# What else goes by these suffixes: where its mark stands, the mark, and what to do.
_OTHERS = {
    "tar archive": (257, b"ustar", "tar -xf; one of PyTorch 0.1.9, saved again by PyTorch 1"),
    "file of gzip": (0, b"\x1f\x8b", "gunzip"),
    "file of xz": (0, b"\xfd7zXZ", "unxz"),
    "file of HDF5": (0, b"\x89HDF", "weights of PyTorch"),
    "safetensors file": (8, b'{"', "the suffix .safetensors"),
}
_LOCAL_HEADER = 30  # bytes of a zip entry before its name
_DTYPES = {f"torch.{name}": d for name, d in vars(torch).items() if isinstance(d, torch.dtype)}
_STORAGES: dict[str, torch.dtype] = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
    **{name: getattr(torch, name.lower()) for name in ("QInt8", "QUInt8", "QInt32", "QUInt4x2")},
}
_PLAIN = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_WRAPPED = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_SUBCLASS = ("_rebuild_from_type", "_rebuild_from_type_v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One file.

    Attributes:
        content: What was saved; see ``Reader``.
        names: Of what its pickle would import.
        file: All its bytes, uint8, mapped.
        records: Key of a storage -> where in the file it starts, and its bytes.
        swapped: Whether its numbers are of the other byte order.
    """

    content: Any
    names: tuple[str, ...]
    file: Tensor
    records: dict[str, tuple[int, int]]
    swapped: bool = False

    def tensor(self, value: object) -> Tensor | None:
        """The tensor that ``value`` describes; None if it is something else.

        Raises:
            InputError: It is a tensor of a kind that has no plain numbers: sparse, quantised ...
            ValueError: It does not lie within its storage.
        """
        if not isinstance(value, Inert) or not value.name.startswith("torch."):
            return None
        function = value.name.rpartition(".")[2]
        if function in _PLAIN:
            return self._plain(value.arguments, function)
        if function in _WRAPPED:
            return self.tensor(value.arguments[0])
        if function in _SUBCLASS:
            inner, _, arguments, *_ = value.arguments
            return self.tensor(Inert(inner.name, tuple(arguments)))
        if function.startswith("_rebuild"):
            kind = function.removeprefix("_rebuild_").replace("_", " ")
            raise InputError(f"its tensor is no plain one but a {kind}", "its plain numbers, saved")
        return None

    def _plain(self, arguments: tuple[Any, ...], function: str) -> Tensor:
        storage, offset, size, stride, *others = arguments
        dtypes = others[2:3] if function == "_rebuild_tensor_v3" else []
        if any(others[3 if dtypes else 2 :]):
            raise InputError("its tensor is a negated or conjugate view", "a clone of it, saved")
        key, itemsize, view = _identity(storage)
        dtype = _DTYPES[dtypes[0].name] if dtypes else _dtype(storage)
        start, length = self.records[key]
        start += _number(view) * itemsize
        size, stride = tuple(map(_number, size)), tuple(map(_number, stride))
        if 0 in size:
            return torch.empty(size, dtype=dtype)
        last = sum((count - 1) * step for count, step in zip(size, stride, strict=True))
        first, used = start + _number(offset) * dtype.itemsize, (last + 1) * dtype.itemsize
        if first + used > sum(self.records[key]):
            raise ValueError(f"a tensor of {size} reaches beyond the {length} bytes of its storage")
        piece = self.file[first : first + used]
        if self.swapped:
            piece = piece.view(-1, dtype.itemsize).flip(1).reshape(-1)
        elif first % dtype.itemsize:
            piece = piece.clone()
        values = piece.view(dtype)
        return torch.as_strided(values, size, stride, values.storage_offset())


def read_archive(path: Path) -> Archive:
    """Read a file of ``torch.save``, of PyTorch 1.6 or before.

    Args:
        path: It is mapped, so that only the tensors that are taken come into memory.

    Raises:
        InputError: It is a program, or nothing of PyTorch.
        UnsafeError: It is a plain pickle that asks for code.
        ValueError, zipfile.BadZipFile: It is damaged; and whatever else its bytes lead to.
    """
    with open_plain(path) as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        if mapped[:4] == ZIP:  # at its start, as PyTorch has it: others may have one inside
            with zipfile.ZipFile(stream) as archive:
                return _read_zip(path, archive, mapped)
    for kind, (start, mark, hint) in _OTHERS.items():
        if mapped[start : start + len(mark)] == mark:
            raise InputError(f"{path} is a {kind}, not a checkpoint of PyTorch", hint)
    return _read_stream(path, mapped)


def _read_zip(path: Path, archive: zipfile.ZipFile, mapped: mmap.mmap) -> Archive:
    entries = {info.filename: info for info in archive.infolist()}
    if any(name.endswith("/constants.pkl") for name in entries):
        raise InputError(
            f"{path} is a TorchScript program, not a checkpoint", "its state_dict, saved"
        )
    for name, info in entries.items():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{name!r:.60} is compressed, as PyTorch compresses nothing")
    if sum(info.file_size for info in archive.infolist()) > len(mapped):
        raise ValueError("its records are larger than the file")
    broken = archive.testzip()  # PyTorch itself does not compare checksums
    if broken is not None:
        raise InputError(f"{path} is damaged in {broken!r:.60}", "download it again")
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if not roots:
        raise InputError(
            f"{path} is a zip archive without a data.pkl, not a checkpoint of PyTorch", "unzip"
        )
    if len(roots) != 1:
        raise ValueError(f"it has {len(roots)} data.pkl")
    root = roots[0]
    if entries[f"{root}data.pkl"].file_size > _LARGEST_PICKLE:
        raise ValueError(f"its data.pkl has more than {_LARGEST_PICKLE} bytes")
    reader = Reader(io.BytesIO(archive.read(f"{root}data.pkl")))
    content = reader.read()
    order: str = sys.byteorder
    if f"{root}byteorder" in entries:
        order = archive.read(f"{root}byteorder").decode()
        if order not in ("little", "big"):
            raise ValueError(f"its byte order is {order!r:.20}")
    records = {}
    for name, info in entries.items():
        if not name.startswith(f"{root}data/"):
            continue
        lengths = struct.unpack_from("<HH", mapped, info.header_offset + _LOCAL_HEADER - 4)
        start = info.header_offset + _LOCAL_HEADER + sum(lengths)  # of the name and the extra field
        records[name.removeprefix(f"{root}data/")] = (start, info.file_size)
    return Archive(
        content=content,
        names=tuple(reader.names),
        file=torch.frombuffer(mapped, dtype=torch.uint8),
        records=records,
        swapped=order != sys.byteorder,
    )


def _read_stream(path: Path, mapped: mmap.mmap) -> Archive:
    """Read the format before PyTorch 1.6: five pickles, and the storages one after the other."""
    reader = Reader(mapped)
    magic = reader.read()
    if magic != _MAGIC:
        hint = "its state_dict, saved with torch.save"
        if reader.names:
            names = ", ".join(reader.names)
            raise UnsafeError(f"{path} is a pickle that would run code to be read: {names}", hint)
        raise InputError(f"{path} is a plain pickle, not a checkpoint", hint)
    if (protocol := reader.read()) != _PROTOCOL:
        raise ValueError(f"its protocol is not {_PROTOCOL} but a {type(protocol).__name__}")
    reader.read()  # the machine that wrote it
    content = reader.read()
    itemsizes = dict(_identity(storage)[:2] for storage in reader.stored if _is_storage(storage))
    records: dict[str, tuple[int, int]] = {}
    keys, position = reader.read(), mapped.tell()
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"a storage whose key is a {type(key).__name__}")
        (count,) = struct.unpack_from("<q", mapped, position)
        start, length = position + 8, _number(count) * itemsizes[key]
        if key in records or start + length > len(mapped):
            raise ValueError("its storages do not lie within the file")
        records[key] = (start, length)
        position = start + length
    return Archive(
        content=content,
        names=tuple(reader.names),
        file=torch.frombuffer(mapped, dtype=torch.uint8),
        records=records,
    )


def _is_storage(stored: Inert) -> bool:
    return stored.arguments[:1] == ("storage",)


def _identity(stored: object) -> tuple[str, int, int]:
    """Key of a storage, bytes of its elements, and where a view of it starts, in elements."""
    if not isinstance(stored, Inert) or stored.name != STORED or not _is_storage(stored):
        raise TypeError("a tensor without a storage")
    _, _, key, _, _, *view = stored.arguments
    if not isinstance(key, str):
        raise TypeError(f"a storage whose key is a {type(key).__name__}")
    return key, _dtype(stored).itemsize, view[0][1] if view and view[0] is not None else 0


def _dtype(stored: Inert) -> torch.dtype:
    module, _, name = stored.arguments[1].name.rpartition(".")
    found = _STORAGES.get(name.removesuffix("Storage"))
    if found is None or module.partition(".")[0] != "torch":
        raise TypeError(f"a storage that is a {name!r:.40}")
    return found


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size or an offset that is no natural number")
    return value
