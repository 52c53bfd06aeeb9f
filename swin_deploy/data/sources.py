"""Lists of photos, and images in ``.npy`` and ``.npz`` files, one at a time, never as pickles."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.own_files import open_plain, read_plain
from swin_deploy.core.records import reading
from swin_deploy.data.images import SUFFIXES
from swin_deploy.data.npy import read_any_header
from swin_deploy.network.judge import FloatArray

KEY = "images"  # of the array to take where an .npz holds several
MAX_BYTES = 16 * 2**30  # of an array, unpacked: 28,000 images of 224x224
MAX_IMAGE_BYTES = 256 * 2**20  # of one image in it: 4700x4700 in colour
_CHUNK = 2**20
_FLOAT32 = np.dtype("<f4")
_HINT = "float32, normalised, (n, channels, height, width), saved with np.save"


@dataclass(frozen=True, slots=True)
class ImageArray:
    """An array of images in a file, of which the header has been checked.

    Attributes:
        path: The ``.npy`` or ``.npz`` file.
        member: The array's file inside an ``.npz``; None in an ``.npy``.
        count: Images in it.
        shape: (channels, height, width) of each.
    """

    path: Path
    member: str | None
    count: int
    shape: tuple[int, int, int]

    @property
    def key(self) -> str:
        """What a message calls the array."""
        return f"{self.path}" + (f"[{self.member.removesuffix('.npy')}]" if self.member else "")

    def read(self, indices: Sequence[int]) -> Iterator[FloatArray]:
        """The images at ascending ``indices``, (channels, height, width) float32 each.

        Packed arrays are read to their end, because only there their checksum is compared.

        Raises:
            InputError: The file is damaged, or an image holds NaN or infinity.
        """
        size = math.prod(self.shape) * _FLOAT32.itemsize
        position = 0
        with _opened(self.path, self.member) as stream:
            _read_header(stream, self.key)
            for index in indices:
                _skip(stream, (index - position) * size)
                content = stream.read(size)
                if len(content) != size:
                    raise InputError(f"{self.key} ends within image {index} of {self.count}")
                image = np.frombuffer(content, dtype=_FLOAT32).reshape(self.shape)
                if not np.isfinite(image).all():
                    raise InputError(
                        f"{self.key}: image {index} holds "
                        f"{np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite"
                    )
                yield image
                position = index + 1
            if self.member is not None:
                _skip(stream, (self.count - position) * size)
                stream.read(1)


def find_images(path: Path) -> ImageArray:
    """Look at the header of an ``.npy``, or of the one array in an ``.npz`` that holds images.

    Of several arrays in an ``.npz`` the one called ``images`` is taken.
    """
    require_plain_file(path, "an array of images")
    member = _only_member(path) if path.suffix.lower() == ".npz" else None
    array = ImageArray(path, member, 0, (0, 0, 0))
    with _opened(path, member) as stream:
        shape = _read_header(stream, array.key)
        expected = stream.tell() + math.prod(shape) * _FLOAT32.itemsize
    if (size := _unpacked_bytes(path, member)) != expected:
        raise InputError(
            f"{array.key} has {size} bytes, and its header says {expected}: {shape} float32",
            "make or copy it again",
        )
    return ImageArray(path, member, shape[0], (shape[1], shape[2], shape[3]))


def _only_member(path: Path) -> str:
    with open_archive(path) as archive:
        names = archive.namelist()
    arrays = [name for name in names if name.endswith(".npy")]
    if len(arrays) == 1:
        return arrays[0]
    if f"{KEY}.npy" in arrays:
        return f"{KEY}.npy"
    keys = ", ".join(name.removesuffix(".npy") for name in arrays[:5])
    raise InputError(
        f"{path} holds {len(arrays)} arrays, none of them called {KEY}: {keys}"
        if arrays
        else f"{path} holds no arrays",
        f"np.savez(path, {KEY}=...)",
    )


def _unpacked_bytes(path: Path, member: str | None) -> int:
    if member is None:
        return path.stat().st_size
    with open_archive(path) as archive:
        return archive.getinfo(member).file_size


@contextmanager
def open_archive(path: Path, hint: str = "") -> Iterator[zipfile.ZipFile]:
    """An ``.npz`` file whose arrays have different names, for the block."""
    with reading(path, "a whole .npz file"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise InputError(f"{path} holds several arrays of one name", hint)
        yield archive


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    if member is None:
        with open_plain(path) as stream:
            yield stream
    else:
        with open_archive(path) as archive, archive.open(member) as stream:
            yield stream


def _skip(stream: IO[bytes], count: int) -> None:
    """Go ``count`` bytes ahead, by reading: a packed stream then compares its checksum."""
    if not isinstance(stream, zipfile.ZipExtFile):
        stream.seek(count, 1)
        return
    while count > 0 and (chunk := stream.read(min(count, _CHUNK))):
        count -= len(chunk)


def _read_header(stream: IO[bytes], name: str) -> tuple[int, int, int, int]:
    """The same for images."""
    shape, dtype = read_any_header(stream, name, _HINT)
    if dtype != _FLOAT32:
        raise InputError(f"{name} is {dtype}, not float32", _HINT)
    if len(shape) != 4 or min(shape) < 1:
        raise InputError(f"{name} has the shape {shape}, not (n, channels, height, width)", _HINT)
    per_image = math.prod(shape[1:]) * _FLOAT32.itemsize
    for what, size, limit in (
        ("an image of it", per_image, MAX_IMAGE_BYTES),
        ("it", per_image * shape[0], MAX_BYTES),
    ):
        if size > limit:
            raise InputError(f"{name}: {what} has {size} bytes, and {limit} is the most", _HINT)
    return shape


MAX_LIST_BYTES = 64 * 2**20
_PHOTOS_HINT = "a folder of photos, a text file with one path a line, or an .npy or .npz"


def read_list(path: Path) -> list[str]:
    """The paths in a text file, one a line, as they stand there: relative to its folder."""
    lines = read_lines(path)
    require_files(path, lines)
    return [name for _, name in lines]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, each with its number.

    Empty lines and those that begin with ``#`` are left out; a byte order mark, Windows line ends
    and spaces around a line do not matter.
    """
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"{path} is one photo", _PHOTOS_HINT)
    require_plain_file(path, "a list of photos")
    if (size := path.stat().st_size) > MAX_LIST_BYTES:
        raise InputError(
            f"{path} has {size} bytes, and a list at most {MAX_LIST_BYTES}", _PHOTOS_HINT
        )
    try:
        text = read_plain(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file: {error}", _PHOTOS_HINT) from error
    if "\0" in text:
        raise InputError(f"{path} is no text file: it has zero bytes", _PHOTOS_HINT)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    wanted = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not wanted:
        raise InputError(f"{path} lists no photos in its {len(lines)} lines", _PHOTOS_HINT)
    return wanted


def require_files(path: Path, lines: list[tuple[int, str]], folder: Path | None = None) -> None:
    """Check that all of (number of its line, name) are files.

    Args:
        path: The list.
        lines: Of it.
        folder: That names are relative to; None for that of the list.
    """
    base = path.parent if folder is None else folder
    missing = [(number, name) for number, name in lines if not (base / name).is_file()]
    if missing:
        first = ", ".join(f"{name} (line {number})" for number, name in missing[:3])
        raise InputError(
            f"{path} lists {len(lines)} photos, and {len(missing)} are no files: {first}",
            "paths relative to the list" if folder is None else f"paths relative to {base}",
        )
