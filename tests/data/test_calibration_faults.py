"""What is no honest set of calibration images is refused, and no code in it ever runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration_images import SIZE, save, some_images, stacked
from swin_deploy.core.errors import SwinDeployError
from swin_deploy.data.samples import find_calibration


class Hostile:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def objects(path: Path) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = Hostile(path.parent / "mark")
    return array


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def poisoned() -> np.ndarray:
    images = some_images()
    images[2, 0, 0, 0] = np.nan
    images[2, 1, 0, 0] = np.inf
    return images


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def bomb(path: Path) -> Path:
    """Few bytes, of which the header says that they unpack to 60 GB."""
    return archive(path, images=header((10**5, 3, 224, 224)) + bytes(2**20))


def padded_bomb(path: Path) -> Path:
    """A small array with 64 MiB of zeros behind it."""
    return archive(path, images=npy(some_images()) + bytes(2**26))


def flipped(path: Path) -> Path:
    np.savez(path, images=some_images())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    return write(path, bytes(content))


def twice(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", npy(some_images()))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("images.npy", npy(some_images()))
    return path


def photos_of(path: Path, *contents: bytes) -> Path:
    path.mkdir()
    for index, content in enumerate(contents):
        write(path / f"{index}.png", content)
    return path


# What is wrong -> (what makes it, from a path without a suffix; the message; the exit code).
FAULTS: dict[str, tuple[Callable[[Path], Path], str, int]] = {
    "nowhere": (lambda p: p, "does not exist", 3),
    "empty folder": (lambda p: photos_of(p), "holds no photos", 3),
    "no photos": (
        lambda p: write(photos_of(p) / "x.txt", b"x").parent,
        "only 1 other files",
        3,
    ),
    "all photos bad": (lambda p: photos_of(p, b"x", b""), "1 or more of 2 calibration photos", 3),
    "a photo": (lambda p: write(p.with_suffix(".jpg"), b"x"), "is one photo", 3),
    "binary list": (lambda p: write(p.with_suffix(".txt"), b"\xff\xfe\xff"), "is no text file", 3),
    "zeros in list": (lambda p: write(p.with_suffix(".txt"), b"a\0b"), "has zero bytes", 3),
    "empty list": (lambda p: write(p.with_suffix(".txt"), b""), "is empty", 3),
    "only comments": (
        lambda p: write(p.with_suffix(".txt"), b"# none\n\n"),
        "in its 2 lines",
        3,
    ),
    "list of nothing": (
        lambda p: write(p.with_suffix(".txt"), b"\na.png\nb.png\n"),
        r"a.png \(line 2\), b.png \(line 3\)",
        3,
    ),
    "lfs pointer": (
        lambda p: write(p.with_suffix(".npy"), b"version https://git-lfs.github.com/spec/v1\n"),
        "git-lfs pointer",
        3,
    ),
    "objects": (lambda p: save(q := p.with_suffix(".npy"), objects(q)), "Python objects", 8),
    "packed objects": (
        lambda p: archive(p.with_suffix(".npz"), images=header((1,), "|O") + b"\x80\x04"),
        "Python objects",
        8,
    ),
    "pickle": (
        lambda p: write(p.with_suffix(".npy"), pickle.dumps(Hostile(p.parent / "mark"))),
        "is a pickle, which runs code",
        8,
    ),
    "packed pickle": (
        lambda p: archive(p.with_suffix(".npz"), x=pickle.dumps(Hostile(p.parent / "mark"))),
        "is a pickle, which runs code",
        8,
    ),
    "no array": (lambda p: write(p.with_suffix(".npy"), b"junk " * 50), "is not a NumPy array", 3),
    "evil header": (
        lambda p: write(p.with_suffix(".npy"), header((1, 3, 8, 8)).replace(b"(1,", b"f(,")),
        "is not a NumPy array",
        3,
    ),
    "negative": (lambda p: write(p.with_suffix(".npy"), header((-1, 3, 8, 8))), "the shape", 3),
    "long header": (
        lambda p: write(p.with_suffix(".npy"), b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99)),
        r"version \(2, 0\)",
        3,
    ),
    "uint8": (
        lambda p: save(p.with_suffix(".npy"), np.zeros((2, 3, *SIZE), np.uint8)),
        "is uint8, not float32",
        3,
    ),
    "float64": (
        lambda p: save(p.with_suffix(".npy"), np.zeros((2, 3, *SIZE))),
        "is float64, not float32",
        3,
    ),
    "big endian": (
        lambda p: save(p.with_suffix(".npy"), np.zeros((2, 3, *SIZE), ">f4")),
        "is >f4, not float32",
        3,
    ),
    "fortran": (
        lambda p: save(p.with_suffix(".npy"), np.asfortranarray(some_images())),
        "Fortran order",
        3,
    ),
    "one image": (
        lambda p: save(p.with_suffix(".npy"), some_images()[0]),
        r"the shape \(3, 8, 8\)",
        3,
    ),
    "none": (lambda p: save(p.with_suffix(".npy"), some_images(0)), r"the shape \(0, 3, 8, 8\)", 3),
    "other size": (
        lambda p: save(p.with_suffix(".npy"), some_images()[..., :4]),
        r"\(3, 8, 4\), .* \(3, 8, 8\)",
        3,
    ),
    "gray": (
        lambda p: save(p.with_suffix(".npy"), some_images(channels=1)),
        r"\(1, 8, 8\), .* \(3, 8, 8\)",
        3,
    ),
    "channels last": (
        lambda p: save(
            p.with_suffix(".npy"), np.ascontiguousarray(some_images().transpose(0, 2, 3, 1))
        ),
        r"\(8, 8, 3\), .* images.transpose\(0, 3, 1, 2\)",
        3,
    ),
    "nan": (
        lambda p: save(p.with_suffix(".npy"), poisoned()),
        "image 2 holds 2 values",
        3,
    ),
    "cut": (
        lambda p: write(p.with_suffix(".npy"), npy(some_images())[:-100]),
        "3868 bytes, .* 3968",
        3,
    ),
    "too long": (
        lambda p: write(p.with_suffix(".npy"), npy(some_images()) + b"x"),
        "3969 bytes, .* 3968",
        3,
    ),
    "bomb": (lambda p: bomb(p.with_suffix(".npz")), "17179869184 is the most", 3),
    "padded bomb": (lambda p: padded_bomb(p.with_suffix(".npz")), "header says 3968", 3),
    "huge image": (
        lambda p: write(p.with_suffix(".npy"), header((1, 3, 10**5, 10**5))),
        "120000000000 bytes",
        3,
    ),
    "no zip": (lambda p: write(p.with_suffix(".npz"), b"junk"), "is damaged: File is not a zip", 3),
    "flipped bit": (lambda p: flipped(p.with_suffix(".npz")), "is damaged: Bad CRC-32", 3),
    "no arrays": (lambda p: archive(p.with_suffix(".npz")), "holds no arrays", 3),
    "wrong keys": (
        lambda p: archive(p.with_suffix(".npz"), a=npy(some_images()), b=npy(some_images())),
        "2 arrays, .* images: a, b",
        3,
    ),
    "two of a name": (lambda p: twice(p.with_suffix(".npz")), "several arrays of one name", 3),
}


@pytest.mark.fault(5, 24, 28)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_calibrated_on_is_refused(tmp_path: Path, fault: str) -> None:
    make, message, code = FAULTS[fault]
    source = make(tmp_path / "x")
    with pytest.raises(SwinDeployError, match=message) as caught:
        stacked(find_calibration(source))
    assert caught.value.exit_code == code
    assert not (tmp_path / "mark").exists()


@pytest.mark.fault(5)
def test_the_hostile_object_would_leave_its_mark(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()
