"""The engine in Python: photos become the numbers of the pipeline, and these become classes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import DIGITS, ROOT
from echoes import COLOUR, EchoRunner, digit_photos
from swin_deploy.data.images import find_photos, load_photo, load_photos
from swin_deploy.network.interface import BatchRange, Preprocessing
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.trust import UnpackedBundle


def odd_images(folder: Path) -> list[Path]:
    """Photos of every mode and shape that people hand over; each has one documented meaning."""
    generator = np.random.default_rng(0)
    grain = generator.integers(0, 256, (60, 80, 4), dtype=np.uint8)
    colour = Image.fromarray(grain[..., :3])
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = colour.quantize(16)
    deep = Image.fromarray(generator.integers(0, 65536, (60, 80), dtype=np.uint16))
    saved: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("rgba.png", Image.fromarray(grain), {}),
        ("la.png", Image.fromarray(grain).convert("LA"), {}),
        ("gray.png", colour.convert("L"), {}),
        ("one bit.png", colour.convert("1"), {}),
        ("palette.png", palette, {}),
        ("clear palette.png", palette, {"transparency": 3}),
        ("clear colour.png", colour, {"transparency": (0, 0, 0)}),
        ("deep.png", deep, {}),
        ("deep.tif", deep, {}),
        ("cmyk.tif", colour.convert("CMYK"), {}),
        ("turned.png", colour, {"exif": exif}),
        ("profile.png", colour, {"icc_profile": b"none that Pillow would apply"}),
        ("moving.gif", palette, {"save_all": True, "append_images": [colour.convert("L")]}),
        ("pages.tif", colour, {"save_all": True, "append_images": [colour.convert("L")]}),
        ("dot.png", colour.crop((0, 0, 1, 1)), {}),
        ("line.png", colour.crop((0, 0, 80, 1)).resize((3000, 1)), {}),
    ]
    for name, image, options in saved:
        image.save(folder / name, **options)
    return [folder / name for name, _, _ in saved]


def test_importing_it_is_light() -> None:
    """Fewer than 15 modules beside the standard library and numpy, this package's own included."""
    code = (
        "import sys; before = set(sys.modules); from swin_deploy.runtime import *\n"
        "for name in sorted(sys.modules.keys() - before): print(name)"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{code}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] != "numpy"}
    foreign = {n for n in loaded if n.partition(".")[0] not in sys.stdlib_module_names}
    assert "swin_deploy.runtime.engine" in foreign
    assert len(foreign) < 15, sorted(foreign)
    assert {name.partition(".")[0] for name in foreign} == {"swin_deploy"}


def test_it_works_where_the_rest_cannot_be_imported(digits_folder: Path, photos: Path) -> None:
    """Loading, preprocessing and predicting never reach for what a device lacks."""
    code = """
import sys
from importlib.abc import MetaPathFinder

class Wall(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "pydantic", "rich", "click", "timm",
                                      "safetensors", "onnx_ir", "onnxscript", "huggingface_hub"}:
            raise ImportError(f"{name} is not on a device")

sys.meta_path.insert(0, Wall())
from swin_deploy.runtime import SwinEngine
with SwinEngine.load(sys.argv[1]) as engine:
    print(engine(sys.argv[2]).labels[0][0])
"""
    photo = str(digit_photos(photos)[18])
    done = subprocess.run(
        [sys.executable, "-c", code, str(digits_folder), photo],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in DIGITS


@pytest.mark.fault(27)
def test_preprocessing_is_that_of_the_pipeline(photos: Path, shipped: UnpackedBundle) -> None:
    """On the 20 photos that a run is verified on: the same bits, one by one and all at once."""
    folder = find_photos(photos)
    assert len(folder.chosen) == 20
    engine = SwinEngine(shipped, "fp32", Path("none"), EchoRunner(BatchRange(high=4)))
    expected, problems = load_photos(folder, shipped.image_size, shipped.preprocessing)
    assert not problems
    np.testing.assert_array_equal(engine.prepare(folder.chosen), expected.images)
    for path, image in zip(folder.chosen, expected.images, strict=True):
        np.testing.assert_array_equal(engine.prepare(str(path))[0], image)
        with Image.open(path) as photo:
            np.testing.assert_array_equal(engine.prepare(photo)[0], image)


@pytest.mark.fault(27)
def test_odd_images_are_those_of_the_pipeline(tmp_path: Path, shipped: UnpackedBundle) -> None:
    for steps, size in ((shipped.preprocessing, shipped.image_size), (COLOUR, (56, 64))):
        other = replace(shipped, preprocessing=steps, image_size=size)
        engine = SwinEngine(other, "fp32", Path("none"), EchoRunner(BatchRange()))
        for path in odd_images(tmp_path):
            expected = load_photo(path, size, steps)
            np.testing.assert_array_equal(engine.prepare(path)[0], expected, err_msg=path.name)
            with Image.open(path) as photo:
                np.testing.assert_array_equal(engine.prepare(photo)[0], expected)


def test_pixels_become_what_their_photo_becomes(tmp_path: Path, shipped: UnpackedBundle) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    other = replace(shipped, preprocessing=COLOUR)
    engine = SwinEngine(other, "fp32", Path("none"), EchoRunner(BatchRange()))
    expected = engine.prepare(tmp_path / "x.png")
    np.testing.assert_array_equal(engine.prepare(pixels), expected)
    np.testing.assert_array_equal(engine.prepare(pixels[None]), expected)
    np.testing.assert_array_equal(engine.prepare([pixels, pixels]), np.repeat(expected, 2, 0))
    np.testing.assert_array_equal(engine.prepare(expected), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_arrays_are_photos(
    tmp_path: Path, shipped: UnpackedBundle, channels: int
) -> None:
    """Whatever the network takes: an array becomes what Pillow makes of a photo of it."""
    steps = COLOUR if channels == 3 else replace(COLOUR, mean=(0.4,), std=(0.2,))
    other = replace(shipped, preprocessing=steps)
    engine = SwinEngine(other, "fp32", Path("none"), EchoRunner(BatchRange()))
    generator = np.random.default_rng(2)
    for shape in ((40, 40, 3), (40, 40)):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        expected = engine.prepare(tmp_path / "x.png")
        assert expected.shape[1] == channels
        forms = [pixels, [pixels]] + ([pixels[None]] if pixels.ndim == 3 else [pixels[..., None]])
        forms += [pixels[None, ..., None], [pixels[..., None]]] if pixels.ndim == 2 else []
        for form in forms:
            np.testing.assert_array_equal(engine.prepare(form), expected)


def test_the_device_prepares_the_same_bits(
    tmp_path: Path, photos: Path, digits_folder: Path, device_python: Path
) -> None:
    """With the Python, numpy and Pillow of the bare environment, and the code of ``swin.pyz``."""
    (tmp_path / "odd").mkdir()
    names = [*find_photos(photos).chosen, *odd_images(tmp_path / "odd")]
    code = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from swin_deploy.data.images import load_photo
from swin_deploy.network.interface import Preprocessing
for name in sys.stdin.read().splitlines():
    print(hashlib.sha256(load_photo(Path(name), (56, 64), Preprocessing()).tobytes()).hexdigest())
"""
    done = subprocess.run(
        [device_python, "-c", code, str(digits_folder / "swin.pyz")],
        input="\n".join(map(str, names)),
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    own = [load_photo(p, (56, 64), Preprocessing()).tobytes() for p in names]
    assert done.stdout.split() == [hashlib.sha256(content).hexdigest() for content in own]
