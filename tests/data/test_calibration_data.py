"""The images that INT8 is calibrated on: the same sample every time, in batches."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration_images import PLAIN, SIZE, save, some_images, stacked
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.data import sources as arrays
from swin_deploy.data.images import load_photo
from swin_deploy.data.samples import CalibrationSet, find_calibration, read_batches
from swin_deploy.network.interface import Preprocessing

GRAY = Preprocessing(crop=1.0, mean=(0.5,), std=(0.5,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 photos of 30 colours, in two class sub-folders."""
    for index in range(30):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (8 * index, 0, 0)).save(path)
    return tmp_path / "photos"


def names(calibration: CalibrationSet) -> list[str]:
    return [image.name for image in calibration.images]


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
    with pytest.raises(InputError, match="2 or more of 30"):
        stacked(find_calibration(folder))


def test_a_different_preprocessing_is_a_different_identity(folder: Path) -> None:
    calibration = find_calibration(folder)
    identity = calibration.identity(SIZE, PLAIN)
    assert identity == find_calibration(folder).identity(SIZE, PLAIN)
    assert identity != calibration.identity(SIZE, Preprocessing(crop=0.9))
    assert identity != calibration.identity((8, 16), PLAIN)
    assert identity != find_calibration(folder, seed=1).identity(SIZE, PLAIN)


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
