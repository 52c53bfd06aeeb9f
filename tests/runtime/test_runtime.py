"""The runtime: light, one preprocessing everywhere, any number of images from any thread."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import DIGITS, ROOT
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.data.images import find_photos, load_photo, load_photos
from swin_deploy.network.interface import BatchRange, Interface, Preprocessing
from swin_deploy.pipeline.run import RunResult
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.annotate import annotate
from swin_deploy.runtime.bench import bench_engine
from swin_deploy.runtime.formats import format_results
from swin_deploy.runtime.images import to_prediction
from swin_deploy.runtime.predict import (
    Guess,
    PhotoResult,
    expand_sources,
    predict_photos,
)
from swin_deploy.runtime.trust import UnpackedBundle, open_bundle

COLOUR = Preprocessing(crop=0.9)


class EchoRunner:
    """Gives the first pixels of every image as logits, and keeps the sizes of its batches."""

    name = "echo"

    def __init__(self, batch: BatchRange, barrier: threading.Barrier | None = None) -> None:
        self.batch = batch
        self.seen: list[int] = []
        self.closed = False
        self._barrier = barrier

    def __enter__(self) -> EchoRunner:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def prepare(self, images: np.ndarray) -> np.ndarray:
        return images

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(len(images))
        if self._barrier is not None:
            self._barrier.wait(timeout=20)
        return {"logits": images.reshape(len(images), -1)[:, :10].copy()}


@pytest.fixture
def shipped(digits_folder: Path) -> UnpackedBundle:
    return open_bundle(digits_folder)


@pytest.fixture
def engine(digits_folder: Path) -> Any:
    with SwinEngine.load(digits_folder, threads=1) as opened:
        yield opened


def digit_photos(photos: Path) -> list[Path]:
    return sorted(photos.glob("mnist_*.png"))


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


def test_the_digits_are_read(engine: SwinEngine, photos: Path) -> None:
    """Names of the files end in the digit that they show; larger batches than 4 are split."""
    files = digit_photos(photos)
    assert len(files) > engine.batch == 4
    prediction = engine(files)
    shown = [DIGITS[int(path.stem[-1])] for path in files]
    assert np.mean([row[0] for row in prediction.labels] == np.array(shown)) > 0.9
    assert len(prediction) == len(files)
    assert prediction.classes.shape == prediction.scores.shape == (len(files), 5)
    assert prediction.names == tuple(map(str, files))
    assert prediction.probabilities
    assert (np.diff(prediction.scores, axis=1) <= 0).all()
    alone = np.concatenate([engine(path).logits for path in files])
    np.testing.assert_allclose(prediction.logits, alone, atol=1e-4)


def test_larger_batches_are_split_and_keep_their_order(shipped: UnpackedBundle) -> None:
    images = np.random.default_rng(0).random((11, 3, 8, 8), dtype=np.float32)
    other = replace(shipped, preprocessing=COLOUR, image_size=(8, 8))
    for batch, sizes in (((1, 4), [4, 4, 3]), ((4, 4), [4, 4, 4]), ((1, 64), [4, 4, 3])):
        runner = EchoRunner(BatchRange(low=batch[0], high=batch[1]))
        engine = SwinEngine(other, "fp32", Path("none"), runner)
        np.testing.assert_array_equal(engine(images).logits, images.reshape(11, -1)[:, :10])
        assert runner.seen == sizes


def test_threads_share_the_workers(shipped: UnpackedBundle) -> None:
    """Three workers run at the same time, or the barrier would break; every answer is its own."""
    barrier = threading.Barrier(3)
    other = replace(shipped, preprocessing=COLOUR, image_size=(8, 8))
    runner = EchoRunner(BatchRange(), barrier)
    engine = SwinEngine(other, "fp32", Path("none"), runner, workers=3)
    images = np.random.default_rng(0).random((30, 1, 3, 8, 8), dtype=np.float32)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda image: engine(image).logits, images))
    np.testing.assert_array_equal(np.stack(answers)[:, 0], images.reshape(30, -1)[:, :10])
    assert len(runner.seen) == 30


def test_real_engines_can_be_called_from_threads(digits_folder: Path, photos: Path) -> None:
    files = digit_photos(photos)
    with SwinEngine.load(digits_folder, workers=2, threads=1) as engine:
        expected = [engine(path).logits for path in files]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda path: engine(path).logits, files))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("counts", [{"threads": 0}, {"threads": 100_000}, {"workers": 1025}])
def test_a_number_that_would_stop_the_machine_is_refused(
    digits_folder: Path, counts: dict[str, int]
) -> None:
    (name, count) = next(iter(counts.items()))
    with pytest.raises(ConfigError, match=f"{name} = {count} is not from 1 to 1024"):
        SwinEngine.load(digits_folder, **counts)


def test_closing_waits_and_is_final(shipped: UnpackedBundle) -> None:
    runner = EchoRunner(BatchRange())
    engine = SwinEngine(shipped, "fp32", Path("none"), runner, workers=2)
    closing = threading.Thread(target=engine.close)
    with engine.borrow():
        closing.start()
        closing.join(timeout=0.2)
        assert not runner.closed
    closing.join(timeout=20)
    assert runner.closed
    engine.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match="was closed"):
            engine(np.zeros((4, 4, 1), dtype=np.uint8))


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images"),
        (np.zeros((3, 3)), "is no images"),
        (np.zeros((1, 9, 9, 3), dtype=np.float32), "takes float32 images of"),
        (np.zeros((9, 9, 2), dtype=np.uint8), r"is \(9, 9, 2\), and the network takes 1"),
        ([7], "a int is no image"),
        (np.zeros((1, 9, 9, 2), dtype=np.uint8), r"is \(9, 9, 2\), and the network takes 1"),
        ([np.zeros((9, 9), dtype=np.int64)], "pixels are"),
        (np.zeros((0, 9), dtype=np.uint8), "has no pixels"),
        ("nowhere.jpg", "^nowhere.jpg does not exist$"),
    ],
)
def test_what_is_no_image_is_refused(shipped: UnpackedBundle, images: Any, message: str) -> None:
    engine = SwinEngine(shipped, "fp32", Path("none"), EchoRunner(BatchRange()))
    with pytest.raises(InputError, match=message):
        engine(images)


def test_backbones_give_maps(shipped: UnpackedBundle) -> None:
    images = np.zeros((2, *shipped.image_size, 1), dtype=np.uint8)
    runner = EchoRunner(BatchRange(high=4))
    backbone = SwinEngine(replace(shipped, outputs="stages"), "fp32", Path("none"), runner)
    assert backbone.maps(images)["logits"].shape == (2, 10)
    with pytest.raises(ConfigError, match=r"gives maps and no classes; try: SwinEngine\.maps"):
        backbone(images)
    with pytest.raises(ConfigError, match="gives classes and no maps"):
        SwinEngine(shipped, "fp32", Path("none"), runner).maps(images)


def test_every_interface_becomes_a_prediction() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], dtype=np.float32)
    every = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = {"scores": logits[:, [1, 2]], "classes": np.array([[1, 2], [0, 1]])}
    plain = to_prediction({"logits": logits}, Interface(), (), (None, None), 5)
    soft = to_prediction({"probabilities": every}, Interface(activation="softmax"), "abc", "xy", 2)
    top = to_prediction(best, Interface(topk=2), (), (None, None), 1)
    assert plain.classes.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert plain.labels[0] == ("1", "2", "0")
    np.testing.assert_allclose(plain.scores.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(plain.logits, logits)
    assert soft.labels == (("b", "c"), ("a", "b"))
    np.testing.assert_allclose(soft.scores, plain.scores[:, :2], rtol=1e-6)
    assert soft.logits is None
    assert soft.probabilities
    assert top.scores.tolist() == [[2.0], [0.0]]
    assert not top.probabilities


def test_what_is_no_built_bundle_says_what_to_do(
    tmp_path: Path, digits_archive: Path, digits_run: Path
) -> None:
    for path, hint in (
        (digits_archive, "python3 -m zipfile -e"),
        (digits_run, "swin-deploy bundle"),
        (tmp_path, "unpack it again|unpack the archive again"),
        (tmp_path / "no", "the folder of an unpacked bundle"),
    ):
        with pytest.raises(InputError, match=hint):
            SwinEngine.load(path)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", digits_archive, tmp_path], check=True)
    with pytest.raises(InputError, match=r"nothing was built .*; try: python3 swin\.pyz build"):
        SwinEngine.load(tmp_path)


def test_predict_prints_tables_csv_and_lines(
    digits_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = digit_photos(photos)[:3]
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    folder, names = str(tmp_path), sorted(str(tmp_path / path.name) for path in files)
    bundle = str(digits_folder)
    assert cli.run(["predict", bundle, folder, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == names
    assert [len(line.split()) for line in lines[1:3]] == [3, 3]
    assert cli.run(["predict", bundle, *names, "--top", "2", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photo,rank,class,label,score"
    assert len(lines) == 1 + 2 * 3
    assert lines[1].startswith(f"{names[0]},1,")
    assert cli.run(["predict", bundle, folder, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["photo"] for row in rows] == names
    assert rows[0]["best"][0]["label"] == DIGITS[int(Path(names[0]).stem[-1])]
    assert len(rows[0]["best"]) == 5


def test_a_list_on_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b c.jpg").touch()  # of the others the run itself says that they are missing
    listed = io.StringIO("a.jpg\r\n\nb c.jpg\n")
    assert expand_sources(["x.png", "-"], listed) == [Path("x.png"), Path("a.jpg"), Path("b c.jpg")]
    with pytest.raises(InputError, match="there are no photos"):
        expand_sources(["-"], io.StringIO(""))


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True), (25, True)])
def test_photos_that_cannot_be_read_are_counted(
    engine: SwinEngine, photos: Path, tmp_path: Path, bad: int, refused: bool
) -> None:
    good = digit_photos(photos)[0].read_bytes()
    for index in range(25):
        (tmp_path / f"{index:02}.png").write_bytes(b"junk" if index < bad else good)
    notes: list[str] = []
    results = predict_photos(engine, sorted(tmp_path.iterdir()), 1, notes.append)
    read = [next(results) for _ in range(25 - bad)]
    assert [result.photo.name for result in read] == [f"{n:02}.png" for n in range(bad, 25)]
    if refused:
        with pytest.raises(InputError, match=f"{bad} of 25 photos cannot be read"):
            next(results)
    else:
        assert list(results) == []
    assert len(notes) == bad
    assert "00.png cannot be read as a photo" in notes[0]


def test_pictures_have_their_classes_below_them(
    digits_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = str(digit_photos(photos)[7]), tmp_path / "pictures"
    command = ["predict", str(digits_folder), photo, photo, "--annotate"]
    assert cli.run([*command, str(out)]) == 0
    name = f"{Path(photo).name}.labels"
    assert sorted(p.name for p in out.iterdir()) == [f"{name}-2.png", f"{name}.png"]
    with Image.open(out / f"{name}.png") as picture:
        width, height = picture.size
        bars = np.asarray(picture)[width:, :, :]  # the photo itself is square
    assert height > width >= 480
    assert (bars == (37, 99, 205)).all(axis=-1).any()  # the bar of the best class
    capsys.readouterr()
    assert cli.run([*command, str(digits_folder / "pictures")]) == 2
    assert "--annotate with a folder elsewhere" in capsys.readouterr().err
    assert not (digits_folder / "pictures").exists()


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (4000, 3000)])
@pytest.mark.parametrize("probabilities", [True, False])
def test_pictures_of_any_shape_can_be_read(
    tmp_path: Path, size: tuple[int, int], probabilities: bool
) -> None:
    Image.new("RGB", size, "green").save(tmp_path / "x.png")
    best = (Guess(1, "a name that is far too long for the place that it has" * 3, 0.7),)
    best += (Guess(2, "\u732b \udcff", -3.0),) * (not probabilities)
    path = annotate(PhotoResult(tmp_path / "x.png", best, probabilities), tmp_path, set())
    with Image.open(path) as picture:
        assert 480 <= picture.width <= 1280


@pytest.mark.fault(43)
def test_names_of_any_bytes_are_printed() -> None:
    photo = Path("new\nline\udcff,\x1b[31m.jpg")
    result = PhotoResult(photo, (Guess(1, 'a "b", c', 0.5),), True)
    for form in ("table", "csv", "jsonl"):
        text = "\n".join(format_results([result], form))  # type: ignore[arg-type]
        text.encode()
    assert "\x1b" not in "\n".join(format_results([result], "table"))
    assert len(list(format_results([result], "table"))) == 2


def test_bench_gives_percentiles(engine: SwinEngine) -> None:
    timing = bench_engine(engine, None, 0.05)
    assert timing.batch == 4
    assert timing.calls >= 1
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms
    for batch in (0, 5):
        with pytest.raises(ConfigError, match=f"takes a batch of 1:4, not {batch}"):
            bench_engine(engine, batch, 0.05)
    with pytest.raises(ConfigError, match="seconds = nan"):
        bench_engine(engine, 1, float("nan"))


def test_a_run_of_random_weights_predicts_when_it_was_allowed(
    pocket_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bundle", str(pocket_run.path), "--target", "cpu", "--out", str(tmp_path / "x.zip")]
    assert cli.run(command) == 2
    assert "are random (seed 0); try: export with --weights" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
    assert cli.run([*command, "--allow-random-weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precisions"] == ["fp32"]
