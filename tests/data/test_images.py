"""Photos of every kind become the same tensors everywhere, and what is no photo is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_deploy.core.errors import InputError
from swin_deploy.data.images import MAX_PHOTOS, find_photos, load_photo, load_photos
from swin_deploy.network.interface import Preprocessing

PLAIN = Preprocessing(crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
RED, WHITE = (1.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# EXIF orientation -> what the camera did to the upright picture.
HELD = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def colour(path: Path) -> tuple[float, ...]:
    """The colour of a photo of one colour, as the network sees it."""
    pixels = load_photo(path, (8, 8), PLAIN)
    assert pixels.shape == (3, 8, 8)
    assert np.ptp(pixels, axis=(1, 2)).max() < 0.02
    return tuple(np.round(pixels[:, 0, 0].astype(float), 1))


def test_the_numbers_are_normalised_channel_by_channel(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 51)).save(tmp_path / "x.png")
    preprocessing = Preprocessing(crop=1.0, mean=(0.5, 0.0, 0.1), std=(0.5, 1.0, 0.1))
    pixels = load_photo(tmp_path / "x.png", (8, 8), preprocessing)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[:, 3, 3], [1.0, 0.0, 1.0], atol=1e-6)


def test_the_centre_is_cut_out_of_the_covering_resize(tmp_path: Path) -> None:
    photo = np.zeros((100, 200, 3), dtype=np.uint8)
    photo[:, 50:150] = 255  # a white square in the middle of a black strip
    Image.fromarray(photo).save(tmp_path / "x.png")
    assert load_photo(tmp_path / "x.png", (50, 50), PLAIN)[:, :, 1:-1].min() > 0.99
    photo[:25] = photo[75:] = 0  # and now half as high: only a crop of one half is all white
    Image.fromarray(photo).save(tmp_path / "x.png")
    half = Preprocessing(crop=0.5, mean=PLAIN.mean, std=PLAIN.std)
    assert load_photo(tmp_path / "x.png", (50, 50), half)[:, 2:-2].min() > 0.99
    assert load_photo(tmp_path / "x.png", (50, 50), PLAIN).min() < 0.01


def test_squashing_keeps_the_whole_photo(tmp_path: Path) -> None:
    photo = np.zeros((100, 200, 3), dtype=np.uint8)
    photo[:, :100] = 255  # the left half is white
    Image.fromarray(photo).save(tmp_path / "x.png")
    squash = replace(PLAIN, crop_mode="squash")
    pixels = load_photo(tmp_path / "x.png", (50, 50), squash)
    assert pixels[:, :, :23].min() > 0.99
    assert pixels[:, :, 27:].max() < 0.01
    quarter = replace(squash, crop=0.5)  # of a resize to 100x100
    assert load_photo(tmp_path / "x.png", (50, 50), quarter).shape == (3, 50, 50)


def test_a_rectangle_keeps_the_aspect_ratio(tmp_path: Path) -> None:
    photo = np.zeros((64, 64, 3), dtype=np.uint8)
    photo[16:48] = 255
    Image.fromarray(photo).save(tmp_path / "x.png")
    pixels = load_photo(tmp_path / "x.png", (32, 64), PLAIN)  # the middle half of the height
    assert pixels.shape == (3, 32, 64)
    assert pixels[:, 1:-1].min() > 0.99


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    ("mode", "value", "suffix", "expected"),
    [
        ("L", 255, "png", WHITE),
        ("1", 1, "png", WHITE),
        ("P", 0, "gif", (0.0, 0.0, 0.0)),
        ("RGBA", (255, 0, 0, 255), "png", RED),
        ("RGBA", (255, 0, 0, 0), "png", WHITE),
        ("LA", (0, 0), "png", WHITE),
        ("CMYK", (0, 255, 255, 0), "tif", RED),
        ("CMYK", (0, 255, 255, 0), "jpg", RED),
        ("I;16", 65535, "png", WHITE),
        ("I;16", 32768, "tif", (0.5, 0.5, 0.5)),
    ],
)
def test_every_mode_has_one_documented_meaning(
    tmp_path: Path, mode: str, value: object, suffix: str, expected: tuple[float, ...]
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new(mode, (16, 16), value).save(path)  # type: ignore[arg-type]
    assert colour(path) == expected


@pytest.mark.fault(27)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_may_be_held_any_way(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 16, 3), dtype=np.uint8)
    upright[:8, :8] = 255  # white in the upper left corner
    photo = Image.fromarray(upright)
    if orientation in HELD:
        photo = photo.transpose(HELD[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "x.png", exif=exif)
    pixels = load_photo(tmp_path / "x.png", (16, 16), PLAIN)
    assert pixels[:, 2, 2].min() > 0.9
    assert pixels[:, 2, 13].max() < 0.1
    assert pixels[:, 13, 2].max() < 0.1


@pytest.mark.fault(26)
def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert colour(tmp_path / "x.gif") == RED


@pytest.mark.fault(26)
@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000)])
def test_extreme_shapes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "x.png")
    assert colour(tmp_path / "x.png") == RED


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a photo",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
    ],
)
def test_what_is_no_photo_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a photo"):
        load_photo(path, (8, 8), PLAIN)


@pytest.mark.fault(26)
def test_a_truncated_photo_and_a_bomb_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read as a photo"):
        load_photo(path, (8, 8), PLAIN)
    Image.fromarray(noise).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="decompression bomb"):
        load_photo(path, (8, 8), PLAIN)


@pytest.mark.fault(24)
def test_a_folder_is_sampled_evenly_and_the_same_every_time(tmp_path: Path) -> None:
    below = tmp_path / "a class"
    below.mkdir()
    for index in range(40):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(below / f"{index:02}.png")
    (tmp_path / "notes.txt").write_text("not a photo")
    (below / "loop").symlink_to(tmp_path)
    folder = find_photos(tmp_path)
    assert folder.found == 40
    assert len(folder.chosen) == MAX_PHOTOS
    assert folder == find_photos(tmp_path)
    assert [path.name for path in folder.chosen[:3]] == ["00.png", "02.png", "04.png"]


@pytest.mark.fault(25)
def test_what_only_looks_like_a_photo_is_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_photos(tmp_path).chosen] == ["x.png"]


@pytest.mark.fault(25)
def test_many_bad_photos_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="1 of 3 photos cannot be read"):
        load_photos(find_photos(tmp_path), (8, 8), PLAIN)


@pytest.mark.fault(25)
def test_one_bad_photo_in_twenty_is_left_out_and_named(tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index:02}.png")
    (tmp_path / "07.png").write_bytes(b"junk")
    photos, problems = load_photos(find_photos(tmp_path), (8, 8), PLAIN)
    assert photos.images.shape == (19, 3, 8, 8)
    assert photos.name == "photos x19"
    assert len(problems) == 1
    assert "07.png cannot be read as a photo" in problems[0]


def test_the_digest_follows_the_contents(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    before = find_photos(tmp_path).sha256
    Image.new("RGB", (8, 8), "red").save(tmp_path / "x.png")
    assert find_photos(tmp_path).sha256 != before
