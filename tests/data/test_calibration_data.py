"""The images that INT8 is calibrated on: the same sample every time, and nothing but images."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_deploy.core.errors import ConfigError, InputError, SwinDeployError
from swin_deploy.data import sources as arrays
from swin_deploy.data.images import load_photo
from swin_deploy.data.samples import CalibrationSet, find_calibration, read_batches
from swin_deploy.network.interface import Preprocessing

SIZE = (8, 8)
PLAIN = Preprocessing(crop=1.0)
GRAY = Preprocessing(crop=1.0, mean=(0.5,), std=(0.5,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 photos of 30 colours, in two class sub-folders."""
    for index in range(30):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (8 * index, 0, 0)).save(path)
    return tmp_path / "photos"


def stacked(calibration: CalibrationSet, batch: int = 4) -> np.ndarray:
    return np.concatenate(list(read_batches(calibration, SIZE, PLAIN, batch)))


def names(calibration: CalibrationSet) -> list[str]:
    return [image.name for image in calibration.images]


def save(path: Path, images: np.ndarray) -> Path:
    np.save(path, images, allow_pickle=True)
    return path


def some_images(count: int = 5, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, channels, *SIZE), dtype=np.float32)


@pytest.mark.fault(24)
def test_a_sample_is_the_same_every_time_and_grows_from_within(folder: Path) -> None:
    ten = find_calibration(folder, 10, seed=3)
    assert ten.found == 30
    assert names(ten) == sorted(names(ten))
    assert ten == find_calibration(folder, 10, seed=3)
    assert {*names(ten)} < {*names(find_calibration(folder, 20, seed=3))}
    other = find_calibration(folder, 10, seed=4)
    assert other.sha256 != ten.sha256
    assert names(other) != names(ten)


def test_the_sample_of_a_seed_is_pinned(folder: Path) -> None:
    """Another numpy must not draw another sample."""
    assert names(find_calibration(folder, 3, seed=0)) == ["cat/06.png", "cat/22.png", "dog/11.png"]


def test_the_digest_follows_names_and_contents(folder: Path) -> None:
    digests = {find_calibration(folder).sha256}
    Image.new("RGB", SIZE, "green").save(folder / "cat" / "00.png")
    digests.add(find_calibration(folder).sha256)
    (folder / "cat" / "00.png").rename(folder / "cat" / "000.png")
    digests.add(find_calibration(folder).sha256)
    assert len(digests) == 3


@pytest.mark.parametrize("batch", [1, 4, 30, 64])
def test_photos_come_in_batches_as_everywhere_else(folder: Path, batch: int) -> None:
    calibration = find_calibration(folder)
    batches = list(read_batches(calibration, SIZE, PLAIN, batch))
    assert [len(images) for images in batches] == [batch] * (30 // batch) + [30 % batch] * (
        30 % batch > 0
    )
    assert batches[0].dtype == np.float32
    expected = [load_photo(folder / name, SIZE, PLAIN) for name in names(calibration)]
    np.testing.assert_array_equal(np.concatenate(batches), np.stack(expected))


@pytest.mark.fault(37)
def test_only_one_batch_is_decoded_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def load(path: Path, *rest: object) -> np.ndarray:
        opened.append(path)
        return np.zeros((3, *SIZE), dtype=np.float32)

    monkeypatch.setattr("swin_deploy.data.samples.load_photo", load)
    batches = read_batches(find_calibration(folder), SIZE, PLAIN, 4)
    assert len(opened) == 0
    next(batches)
    assert len(opened) == 4


@pytest.mark.fault(24)
def test_loops_fifos_and_dangling_links_are_no_images(folder: Path) -> None:
    (folder / "cat" / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    assert find_calibration(folder).found == 30


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_names_photos_relative_to_itself(folder: Path, newline: str, mark: str) -> None:
    lines = ["# two of them", "dog/01.png", "", "  cat/00.png  "]
    (folder / "list.txt").write_bytes((mark + newline.join(lines)).encode())
    calibration = find_calibration(folder / "list.txt")
    assert names(calibration) == ["cat/00.png", "dog/01.png"]
    assert stacked(calibration).shape == (2, 3, *SIZE)
    absolute = folder / "absolute.txt"
    absolute.write_text(f"{folder / 'cat' / '00.png'}\n")
    np.testing.assert_array_equal(stacked(find_calibration(absolute)), stacked(calibration)[:1])


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "packed.npz"])
def test_arrays_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    images = some_images()
    if name == "x.npy":
        np.save(tmp_path / name, images)
    else:
        (np.savez_compressed if "packed" in name else np.savez)(tmp_path / name, images)
    calibration = find_calibration(tmp_path / name)
    np.testing.assert_array_equal(stacked(calibration, 2), images)
    three = find_calibration(tmp_path / name, 3)
    np.testing.assert_array_equal(stacked(three), images[list(three.positions)])
    assert names(three) == [str(position) for position in three.positions]


def test_the_array_called_images_goes_before_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=some_images(), labels=np.arange(5))
    assert find_calibration(tmp_path / "x.npz").found == 5


@pytest.mark.fault(29)
def test_what_is_worth_saying_is_said(folder: Path, tmp_path: Path) -> None:
    calibration = find_calibration(folder, 512)
    assert calibration.notes == (
        "30 calibration images are there, fewer than 512: all are used",
        "calibration on 30 images: with fewer than 100 the ranges depend on which they are",
    )
    (folder / "copy.png").write_bytes((folder / "cat" / "00.png").read_bytes())
    assert find_calibration(folder).notes[-1] == ("1 of 31 calibration images are copies of others")
    save(tmp_path / "x.npy", np.float32(255) * np.ones((100, 3, *SIZE), dtype=np.float32))
    assert find_calibration(tmp_path / "x.npy").notes == (
        "99 of 100 calibration images are copies of others",
        f"{tmp_path / 'x.npy'} holds values up to 255: are its images normalised?",
    )
    generator = np.random.default_rng(0)
    save(tmp_path / "y.npy", generator.standard_normal((100, 3, *SIZE), dtype=np.float32))
    assert find_calibration(tmp_path / "y.npy").notes == ()


@pytest.mark.fault(25)
def test_one_bad_photo_in_twenty_is_left_out_and_named(folder: Path) -> None:
    (folder / "cat" / "00.png").write_bytes(b"junk")
    notes: list[str] = []
    batches = list(read_batches(find_calibration(folder), SIZE, PLAIN, 4, notes.append))
    assert sum(map(len, batches)) == 29
    assert [len(images) for images in batches] == [4] * 7 + [1]
    assert len(notes) == 1
    assert "left out of the calibration" in notes[0]
    assert "00.png cannot be read as a photo" in notes[0]
    (folder / "cat" / "02.png").write_bytes(b"")
    with pytest.raises(InputError, match="2 or more of 30 calibration photos cannot be read"):
        stacked(find_calibration(folder))


def test_a_different_preprocessing_is_a_different_identity(folder: Path) -> None:
    calibration = find_calibration(folder)
    identity = calibration.identity(SIZE, PLAIN)
    assert identity == find_calibration(folder).identity(SIZE, PLAIN)
    assert identity != calibration.identity(SIZE, Preprocessing(crop=0.9))
    assert identity != calibration.identity((8, 16), PLAIN)
    assert identity != find_calibration(folder, seed=1).identity(SIZE, PLAIN)


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
        "holds no photos, only 1 other files",
        3,
    ),
    "all photos bad": (lambda p: photos_of(p, b"x", b""), "1 or more of 2 calibration photos", 3),
    "a photo": (lambda p: write(p.with_suffix(".jpg"), b"x"), "is one photo", 3),
    "binary list": (lambda p: write(p.with_suffix(".txt"), b"\xff\xfe\xff"), "is no text file", 3),
    "zeros in list": (lambda p: write(p.with_suffix(".txt"), b"a\0b"), "has zero bytes", 3),
    "empty list": (lambda p: write(p.with_suffix(".txt"), b""), "is empty", 3),
    "only comments": (
        lambda p: write(p.with_suffix(".txt"), b"# none\n\n"),
        "lists no photos in its 2 lines",
        3,
    ),
    "list of nothing": (
        lambda p: write(p.with_suffix(".txt"), b"\na.png\nb.png\n"),
        r"lists 2 photos, and 2 are no files: a.png \(line 2\), b.png \(line 3\)",
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
        r"has the shape \(3, 8, 8\), not \(n, channels, height, width\)",
        3,
    ),
    "none": (lambda p: save(p.with_suffix(".npy"), some_images(0)), r"the shape \(0, 3, 8, 8\)", 3),
    "other size": (
        lambda p: save(p.with_suffix(".npy"), some_images()[..., :4]),
        r"images of \(3, 8, 4\), and the network takes \(3, 8, 8\)",
        3,
    ),
    "gray": (
        lambda p: save(p.with_suffix(".npy"), some_images(channels=1)),
        r"images of \(1, 8, 8\), and the network takes \(3, 8, 8\)",
        3,
    ),
    "channels last": (
        lambda p: save(
            p.with_suffix(".npy"), np.ascontiguousarray(some_images().transpose(0, 2, 3, 1))
        ),
        r"images of \(8, 8, 3\), .* channels come last: images.transpose\(0, 3, 1, 2\)",
        3,
    ),
    "nan": (
        lambda p: save(p.with_suffix(".npy"), poisoned()),
        "image 2 holds 2 values that are NaN or infinite",
        3,
    ),
    "cut": (
        lambda p: write(p.with_suffix(".npy"), npy(some_images())[:-100]),
        r"has 3868 bytes, and its header says 3968",
        3,
    ),
    "too long": (
        lambda p: write(p.with_suffix(".npy"), npy(some_images()) + b"x"),
        r"has 3969 bytes, and its header says 3968",
        3,
    ),
    "bomb": (lambda p: bomb(p.with_suffix(".npz")), "17179869184 is the most", 3),
    "padded bomb": (lambda p: padded_bomb(p.with_suffix(".npz")), "header says 3968", 3),
    "huge image": (
        lambda p: write(p.with_suffix(".npy"), header((1, 3, 10**5, 10**5))),
        "an image of it has 120000000000 bytes",
        3,
    ),
    "no zip": (lambda p: write(p.with_suffix(".npz"), b"junk"), "is damaged: File is not a zip", 3),
    "flipped bit": (lambda p: flipped(p.with_suffix(".npz")), "is damaged: Bad CRC-32", 3),
    "no arrays": (lambda p: archive(p.with_suffix(".npz")), "holds no arrays", 3),
    "wrong keys": (
        lambda p: archive(p.with_suffix(".npz"), a=npy(some_images()), b=npy(some_images())),
        "holds 2 arrays, none of them called images: a, b",
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


def test_gray_arrays_fit_gray_networks(tmp_path: Path) -> None:
    source = save(tmp_path / "x.npy", some_images(channels=1))
    (images,) = read_batches(find_calibration(source), SIZE, GRAY, 8)
    assert images.shape == (5, 1, *SIZE)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_a_sample_that_means_nothing_is_refused(folder: Path, count: int, seed: int) -> None:
    with pytest.raises(ConfigError):
        find_calibration(folder, count, seed)


def test_a_large_array_is_read_image_by_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than an image and the pieces in which gaps are skipped is ever asked for."""
    monkeypatch.setattr(arrays, "_CHUNK", 100)
    save(tmp_path / "x.npy", some_images(50))
    np.savez_compressed(tmp_path / "x.npz", some_images(50))
    sizes: list[int] = []
    read = zipfile.ZipExtFile.read

    def count(self: zipfile.ZipExtFile, n: int = -1) -> bytes:
        sizes.append(n)
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", count)
    packed = find_calibration(tmp_path / "x.npz", 5)
    assert max(sizes) == 3 * 8 * 8 * 4
    assert min(sizes) > 0
    plain = find_calibration(tmp_path / "x.npy", 5)
    np.testing.assert_array_equal(stacked(packed), stacked(plain))
