"""Photos of other than one or three channels: arrays, bands of pictures, and whole networks."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Silent
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.data.bands import as_pixels
from swin_deploy.data.images import list_photos, load_photo
from swin_deploy.network.interface import Preprocessing
from swin_deploy.run.finished import require_run
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.images import prepare_images
from swin_deploy.runtime.trust import open_bundle

SIZE = (16, 20)


def steps(channels: int, **changes: Any) -> Preprocessing:
    mean = tuple(0.1 * (i + 1) for i in range(channels))
    std = tuple(0.5 + 0.1 * i for i in range(channels))
    return Preprocessing(mean=mean, std=std, **changes)


def pixels(channels: int, dtype: str = "uint8", height: int = 30, width: int = 40) -> Any:
    generator = np.random.default_rng(channels)
    if dtype.startswith("float"):
        return generator.random((height, width, channels)).astype(dtype)
    top = np.iinfo(dtype).max
    return generator.integers(0, top + 1, (height, width, channels)).astype(dtype)


def saved(path: Path, array: Any) -> Path:
    np.save(path, np.ascontiguousarray(array))
    return path


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("channels", [2, 4, 12])
def test_every_band_is_resized_as_a_grey_photo(
    channels: int, interpolation: Any, tmp_path: Path
) -> None:
    array, own = pixels(channels), steps(channels, interpolation=interpolation)
    found = load_photo(saved(tmp_path / "x.npy", array), SIZE, own)
    assert (found.shape, found.dtype) == ((channels, *SIZE), np.float32)
    for band in range(channels):
        Image.fromarray(array[:, :, band]).save(tmp_path / "band.png")
        alone = Preprocessing(
            mean=own.mean[band : band + 1],
            std=own.std[band : band + 1],
            interpolation=interpolation,
        )
        np.testing.assert_array_equal(
            found[band], load_photo(tmp_path / "band.png", SIZE, alone)[0]
        )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 12])
def test_channels_may_come_first(channels: int, dtype: str, tmp_path: Path) -> None:
    array, own = pixels(channels, dtype), steps(channels)
    last = load_photo(saved(tmp_path / "last.npy", array), SIZE, own)
    first = load_photo(saved(tmp_path / "first.npy", array.transpose(2, 0, 1)), SIZE, own)
    np.testing.assert_array_equal(last, first)


def test_numbers_of_every_type_have_their_range(tmp_path: Path) -> None:
    own = Preprocessing(
        mean=(0.25,) * 2, std=(0.5,) * 2, crop=1.0, crop_mode="squash", interpolation="bilinear"
    )
    shares = np.random.default_rng(0).random((*SIZE, 2))
    for dtype, top in {"uint8": 255, "uint16": 65535, "float32": 1}.items():
        whole = np.rint(shares * top) if top > 1 else shares
        found = load_photo(saved(tmp_path / "x.npy", whole.astype(dtype)), SIZE, own)
        expected = (whole.astype(dtype) / top - 0.25) / 0.5
        np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-6)


def test_floats_are_in_the_unit_of_mean_and_std(tmp_path: Path) -> None:
    """Reflectances of 0 to 10000, say."""
    own = Preprocessing(mean=(4000.0, 3000.0), std=(2000.0, 1000.0), crop=1.0, crop_mode="squash")
    array = np.random.default_rng(0).random((*SIZE, 2)).astype(np.float32) * 10000
    found = load_photo(saved(tmp_path / "x.npy", array), SIZE, own)
    expected = (array - (4000, 3000)) / (2000, 1000)
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [1, 3])
def test_bytes_of_grey_and_colour_are_those_of_a_photo(
    given: int, channels: int, tmp_path: Path
) -> None:
    array = pixels(given)
    flat = array[:, :, 0] if given == 1 else array
    Image.fromarray(flat).save(tmp_path / "x.png")
    own = steps(channels)
    expected = load_photo(tmp_path / "x.png", SIZE, own)
    for name, one in {"flat": flat, "whole": array}.items():
        found = load_photo(saved(tmp_path / f"{name}.npy", one), SIZE, own)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("mode", "channels"), [("LA", 2), ("RGBA", 4), ("CMYK", 4)])
def test_bands_of_pictures_are_taken_as_they_are(mode: str, channels: int, tmp_path: Path) -> None:
    array, own = pixels(channels), steps(channels)
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    Image.fromarray(array, mode=mode).save(path)
    found = load_photo(path, SIZE, own)
    np.testing.assert_array_equal(found, load_photo(saved(tmp_path / "x.npy", array), SIZE, own))
    prepared = prepare_images([array], SIZE, own)
    np.testing.assert_array_equal(prepared[0], found)


REFUSED: dict[str, tuple[Any, str]] = {
    "channels": (np.zeros((8, 8, 3), np.uint8), r"shape is \(8, 8, 3\), and the network takes 4"),
    "flat": (np.zeros((8, 8), np.uint8), "takes 4 channels"),
    "either": (np.zeros((4, 8, 4), np.uint8), "may be the first or the last"),
    "axes": (np.zeros((1, 8, 8, 4), np.uint8), "takes 4 channels"),
    "nothing": (np.zeros((0, 8, 4), np.uint8), "takes 4 channels"),
    "type": (np.zeros((8, 8, 4), np.int64), "is int64, none of uint8, uint16"),
    "nan": (np.full((8, 8, 4), math.nan, np.float32), "NaN or infinite"),
}


@pytest.mark.parametrize(("array", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_arrays_that_are_no_photo_of_four_channels(array: Any, says: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=says) as caught:
        load_photo(path, SIZE, steps(4))
    assert caught.value.problem.startswith(str(path))
    assert "(H, W, 4) or (4, H, W)" in caught.value.hint


def test_an_array_of_objects_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeError, match="Python objects"):
        load_photo(tmp_path / "x.npy", SIZE, steps(4))


def test_an_array_that_is_cut_short(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npy", pixels(4))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not as long as its header says"):
        load_photo(path, SIZE, steps(4))


def test_a_photo_of_other_bands_says_which(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png: the photo has 3 channels \(RGB\).* takes 4"):
        load_photo(tmp_path / "x.png", SIZE, steps(4))


def test_arrays_are_listed_as_photos(tmp_path: Path) -> None:
    saved(tmp_path / "x.npy", pixels(4))
    assert list_photos(tmp_path) == [tmp_path / "x.npy"]


def test_the_axis_of_the_channels_is_told_by_their_number() -> None:
    assert as_pixels(np.zeros((4, 9, 8), np.uint8), 4).shape == (9, 8, 4)
    assert as_pixels(np.zeros((9, 8, 4), np.uint8), 4).shape == (9, 8, 4)
    assert as_pixels(np.zeros((9, 8), np.uint16), 1).shape == (9, 8, 1)


def checkpoint(folder: Path, channels: int) -> Path:
    network = small_timm(in_chans=channels, depths=(1, 1), num_heads=(1, 2))
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_a_file_alone_is_enough(
    channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(tmp_path, channels)
    assert cli.run(["inspect", str(weights), "--image", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preprocessing"]["mean"] == [0.449] * channels
    assert found["preprocessing"]["std"] == [0.226] * channels
    note = f"nothing says mean and std of {channels} channels: 0.449 and 0.226 are taken"
    assert any(note in one for one in found["notes"])
    own = ["--mean", "0.5", "--std", ",".join(["0.25"] * channels)]
    assert cli.run(["inspect", str(weights), "--image", "64", "--json", *own]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preprocessing"]["mean"] == [0.5] * channels
    assert not any("nothing says mean" in one for one in found["notes"])


def test_a_folder_of_timm_with_the_mean_of_rgb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its ``save_for_hf`` writes it, for a network of one channel."""
    from timm_models import import_timm

    timm = import_timm()
    from timm.models import save_for_hf

    network = timm.create_model(
        "swin_tiny_patch4_window7_224", in_chans=1, img_size=64, window_size=4, num_classes=3,
        embed_dim=16, depths=(1, 1), num_heads=(1, 2),
    )  # fmt: skip
    arguments = {
        "img_size": 64, "window_size": 4, "in_chans": 1, "embed_dim": 16, "depths": (1, 1),
        "num_heads": (1, 2),
    }  # fmt: skip
    save_for_hf(network, tmp_path / "folder", model_args=arguments)
    assert cli.run(["inspect", str(tmp_path / "folder"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["in_channels"] == 1
    assert found["preprocessing"]["mean"] == [0.449]


@pytest.mark.slow
def test_twelve_bands_from_a_file_to_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, photos, run = checkpoint(tmp_path, 12), tmp_path / "photos", tmp_path / "run"
    for index in range(6):
        (photos / f"{index % 3}").mkdir(parents=True, exist_ok=True)
        array = pixels(12, "uint16", 70 + index, 80) // (index + 1)
        saved(photos / f"{index % 3}" / f"{index}.npy", array)
    command = ["export", "--weights", weights, "--image", "64", "--target", "cpu", "--out", run]
    command += ["--images", photos, "--precision", "fp32,int8", "--calibration", photos]
    assert cli.run(list(map(str, command))) == 0
    rows = json.loads((run / "verify.json").read_text())["comparisons"]
    assert any(row["inputs"] == "photos x6" for row in rows)
    assert require_run(run).config.in_channels == 12

    out = tmp_path / "evaluate.json"
    command = ["evaluate", run, "--data", photos, "--eager", "--json", "--out", out]
    capsys.readouterr()
    assert cli.run(list(map(str, command))) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6

    archive, folder = tmp_path / "x.zip", tmp_path / "unpacked"
    command = ["bundle", run, "--target", "cpu", "--precision", "fp32", "--out", archive]
    assert cli.run(list(map(str, command))) == 0
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    build_bundle(open_bundle(folder), ["fp32"], Silent().started)
    capsys.readouterr()
    assert cli.run(["predict", str(folder), str(photos), "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6 * 3
    with SwinEngine.load(folder) as engine:
        by_path = engine(photos / "0" / "0.npy")
        by_pixels = engine(np.load(photos / "0" / "0.npy"))
    np.testing.assert_array_equal(by_path.scores, by_pixels.scores)
