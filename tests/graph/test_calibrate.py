"""Calibration counts every image once, whatever the batch, and however often it is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from conftest import POCKET
from swin_deploy.core.errors import InputError
from swin_deploy.data.samples import find_calibration, read_batches
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.graph.int8 import observe as calibrate
from swin_deploy.graph.int8.observe import SCHEMA_VERSION, collect_statistics
from swin_deploy.graph.int8.thresholds import TensorStatistics, measure_tensor
from swin_deploy.pipeline.run import RunResult

# Its inner tensor has the batch in the middle, as those of the export form do.
TOY = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[{batch}, 1, 2, 3] image) => (float[{batch}, 2, 2] logits)
<float[3, 2] w = {{1, -2, 3, 4, -5, 6}}, int64[3] shape = {{0, 2, 3}}> {{
    tokens = Reshape(image, shape)
    rows = Transpose <perm = [1, 0, 2]>(tokens)
    hidden = Relu(rows)
    product = MatMul(hidden, w)
    logits = Transpose <perm = [1, 0, 2]>(product)
    axis = Shape(image)
}}"""
IMAGES = np.random.default_rng(0).standard_normal((10, 1, 2, 3)).astype(np.float32)
HIDDEN = np.maximum(IMAGES, 0)


@pytest.fixture
def toy(tmp_path: Path) -> Callable[[int | str], Path]:
    def make(batch: int | str = "b") -> Path:
        path = tmp_path / f"toy-{batch}.onnx"
        ir.save(ir.from_onnx_text(TOY.format(batch=batch)), path)
        return path

    return make


def batches_of(size: int, images: np.ndarray = IMAGES) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: (images[i : i + size] for i in range(0, len(images), size))


def never() -> Iterable[np.ndarray]:
    raise AssertionError("the cache was not used")


def collect(
    graph: Path,
    batches: Callable[[], Iterable[np.ndarray]],
    cache: Path | None = None,
    identity: dict[str, object] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **more: Any,
) -> dict[str, TensorStatistics]:
    """Of the toy's inner tensor."""
    return collect_statistics(graph, ["hidden"], batches, cache, identity or {}, progress, **more)


def assert_same(
    found: dict[str, TensorStatistics], expected: dict[str, TensorStatistics], factor: int = 1
) -> None:
    assert list(found) == list(expected)
    for name, statistics in expected.items():
        np.testing.assert_array_equal(found[name].counts, statistics.counts * factor)
        assert found[name].images == statistics.images
        assert (found[name].minimum, found[name].maximum) == (
            statistics.minimum,
            statistics.maximum,
        )


@pytest.mark.fault(29)
@pytest.mark.parametrize("given", [1, 3, 10])
@pytest.mark.parametrize("batch", ["b", 1, 3, 4, 16])
def test_every_image_counts_alike(
    toy: Callable[[int | str], Path], batch: int | str, given: int
) -> None:
    """Those left over of a static batch too: 10 images make 3 batches of 3 and one of 1."""
    found = collect(toy(batch), batches_of(given))
    factor = batch if isinstance(batch, int) else 1
    assert_same(found, {"hidden": measure_tensor(HIDDEN, 10)}, factor)
    for method in CALIBRATION_METHODS:
        expected = measure_tensor(HIDDEN, 10).threshold(method)
        assert found["hidden"].threshold(method) == expected


def test_inputs_and_outputs_are_tensors_too(toy: Callable[[int | str], Path]) -> None:
    names = ["image", "logits", "hidden", "hidden"]
    found = collect_statistics(toy("b"), names, batches_of(2), None, {})
    assert list(found) == ["image", "logits", "hidden"]
    assert_same({"image": found["image"]}, {"image": measure_tensor(IMAGES, 10)})
    assert found["logits"].counts.sum() == 10 * 2 * 2


def test_progress_is_told(toy: Callable[[int | str], Path]) -> None:
    said: list[tuple[str, int, int]] = []
    collect(toy(4), batches_of(5), None, {}, lambda *told: said.append(told), total=10)
    assert said == [("calibration", done, 10) for done in (4, 8, 9, 10)]


def test_the_graph_is_left_as_it_was(toy: Callable[[int | str], Path]) -> None:
    before = toy().read_bytes()
    collect(toy(), batches_of(2))
    assert toy().read_bytes() == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (["hidden", "hiden", "other"], "has 2 of 3 tensors not: hiden, other"),
        (["w"], "has 1 of 1 tensors not: w"),
        (["axis"], "not an ONNX model that ONNX Runtime runs"),  # of integers
    ],
)
def test_what_is_no_activation_is_refused(
    toy: Callable[[int | str], Path], tensors: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        collect_statistics(toy(), tensors, batches_of(2), None, {})


@pytest.mark.fault(31)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_named(
    toy: Callable[[int | str], Path], bad: float
) -> None:
    images = IMAGES.copy()
    images[6, 0, 0, 0] = bad
    with pytest.raises(InputError, match=r"logits is not finite on calibration image 7:"):
        collect_statistics(toy("b"), ["logits"], batches_of(4, images), None, {})
    with pytest.raises(InputError, match=r"logits is not finite on calibration image 5 to 8:"):
        collect_statistics(toy(4), ["logits"], batches_of(4, images), None, {})


@pytest.mark.parametrize("content", [None, b"", b"junk", b"<html>"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(InputError):
        collect(tmp_path / "x.onnx", batches_of(2))


def test_no_images_and_images_of_another_size_are_refused(
    toy: Callable[[int | str], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="there are no calibration images"):
        collect(toy(), lambda: iter(()), tmp_path / "cache.npz", {})
    assert not (tmp_path / "cache.npz").exists()
    with pytest.raises(Exception, match=r"takes images of \(1, 2, 3\), got \(1, 2, 2\)") as caught:
        collect(toy(), batches_of(2, IMAGES[..., :2]))
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]


def test_a_finished_cache_serves_every_method(
    toy: Callable[[int | str], Path], tmp_path: Path
) -> None:
    cache = tmp_path / "below" / "cache.npz"
    identity = {"images": "a", "size": (2, 3)}
    first = collect(toy(3), batches_of(4), cache, identity)
    notes: list[str] = []
    again = collect(toy(3), never, cache, identity, note=notes.append)
    assert_same(again, first)
    assert notes == []
    assert [path.name for path in cache.parent.iterdir()] == ["cache.npz"]


def test_a_cache_of_something_else_is_counted_again(
    toy: Callable[[int | str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, notes = tmp_path / "cache.npz", list[str]()
    collect(toy("b"), batches_of(4, IMAGES[:4]), cache, {"images": "a", "seed": 0})

    def changed(graph: Path, identity: dict[str, object], tensors: tuple[str, ...]) -> str:
        notes.clear()
        collect_statistics(graph, tensors, batches_of(4), cache, identity, note=notes.append)
        assert_same(
            collect_statistics(graph, tensors, never, cache, identity),
            collect_statistics(graph, tensors, batches_of(4), None, {}),
        )
        (note,) = notes
        return note.removeprefix(f"{cache} is of another ").removesuffix(": calibrating again")

    same = ("hidden",)
    assert changed(toy("b"), {"images": "b", "seed": 0}, same) == "images"
    assert changed(toy("b"), {"images": "c", "seed": 1}, same) == "images, seed"
    assert changed(toy("b"), {"images": "c"}, same) == "seed"
    assert changed(toy(2), {"images": "c"}, same) == "graph"
    assert changed(toy(2), {"images": "c"}, ("hidden", "logits")) == "tensors"
    monkeypatch.setattr("onnxruntime.__version__", "0.0")
    assert changed(toy(2), {"images": "c"}, ("hidden", "logits")) == "onnxruntime"


def rewritten(cache: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(cache) as archive:
        members = dict(archive)
    edit(members)
    np.savez_compressed(cache, **members)


def negative(members: dict[str, np.ndarray]) -> None:
    members["counts"][0] = -1


def shorter(members: dict[str, np.ndarray]) -> None:
    members["counts"] = members["counts"][:-1]


def longer(members: dict[str, np.ndarray]) -> None:
    members["counts"] = np.append(members["counts"], 1)


def of_floats(members: dict[str, np.ndarray]) -> None:
    members["counts"] = members["counts"].astype(float)


def without_counts(members: dict[str, np.ndarray]) -> None:
    del members["counts"]


def of_another_version(members: dict[str, np.ndarray]) -> None:
    old, new = (f'"schema_version": {n}'.encode() for n in (SCHEMA_VERSION, SCHEMA_VERSION + 1))
    head = members["head"].tobytes()
    assert old in head
    members["head"] = np.frombuffer(head.replace(old, new), np.uint8)


def without_range(members: dict[str, np.ndarray]) -> None:
    head = members["head"].tobytes().replace(b'"minimum"', b'"minimal"')
    members["head"] = np.frombuffer(head, np.uint8)


EDITS = (
    *(negative, shorter, longer, of_floats, without_counts),
    *(of_another_version, without_range),
)


@pytest.mark.parametrize("edit", EDITS)
def test_a_cache_that_contradicts_itself_is_not_believed(
    toy: Callable[[int | str], Path], tmp_path: Path, edit: Callable[[dict[str, np.ndarray]], None]
) -> None:
    cache, notes = tmp_path / "cache.npz", list[str]()
    first = collect(toy(), batches_of(4), cache, {})
    rewritten(cache, edit)
    assert_same(collect(toy(), batches_of(4), cache, {}, note=notes.append), first)
    assert len(notes) == 1
    assert "cannot be used" in notes[0]
    assert_same(collect(toy(), never, cache, {}), first)


def test_no_damage_of_a_cache_is_believed_or_fatal(
    toy: Callable[[int | str], Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache.npz"
    first = collect(toy(), batches_of(4), cache, {})
    whole = cache.read_bytes()
    flipped = [
        whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]
        for i in range(0, len(whole), max(1, len(whole) // 60))
    ]
    cut = [whole[: len(whole) * i // 10] for i in range(10)]
    objects = tmp_path / "objects.npz"
    np.savez(objects, head=np.array([{}], dtype=object), counts=np.zeros(1, np.int64))
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head.npy", bytes(2**24))
    others = [b"junk", b"PK\x03\x04", objects.read_bytes(), bomb.read_bytes()]
    for content in (*flipped, *cut, *others):
        cache.write_bytes(content)
        assert_same(collect(toy(), batches_of(4), cache, {}), first)


class StopHere(Exception):  # noqa: N818
    """What a listener raises to end a calibration somewhere."""


@pytest.mark.parametrize("given", [3, 4])
@pytest.mark.parametrize("batch", ["b", 4])
@pytest.mark.parametrize("stop", range(1, 11))
def test_an_interrupted_calibration_goes_on_where_it_was(
    toy: Callable[[int | str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
    batch: int | str,
    given: int,
) -> None:
    monkeypatch.setattr(calibrate, "SAVE_EVERY_S", 0)
    expected, cache = collect(toy(batch), batches_of(4)), tmp_path / "cache.npz"

    def stopping(what: str, done: int, total: int) -> None:
        if done >= stop:
            raise StopHere

    with pytest.raises(StopHere):
        collect(toy(batch), batches_of(4), cache, {}, stopping)
    notes, told = list[str](), list[int]()

    def telling(what: str, done: int, total: int) -> None:
        told.append(done)

    found = collect(toy(batch), batches_of(given), cache, {}, telling, note=notes.append)
    assert_same(found, expected)
    steps = [0, *(range(1, 11) if batch == "b" else (4, 8, 9, 10))]
    stopped = next(index for index, done in enumerate(steps) if done >= stop)
    saved = steps[stopped - 1]  # the run that was stopped had not been saved
    assert told == steps[stopped:]
    assert notes == ([f"calibration goes on after {saved} images, from {cache}"] if saved else [])


@pytest.mark.fault(29)
def test_fewer_images_than_were_counted_are_refused(
    toy: Callable[[int | str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SAVE_EVERY_S", 0)
    cache = tmp_path / "cache.npz"

    def stopping(what: str, done: int, total: int) -> None:
        if done == 8:
            raise StopHere

    with pytest.raises(StopHere):
        collect(toy(), batches_of(4), cache, {}, stopping)
    with pytest.raises(InputError, match="has counted 7 calibration images, and there are 2"):
        collect(toy(), batches_of(4, IMAGES[:2]), cache, {})


def products(graph: Path) -> list[str]:
    """The inputs of all matrix products that are no weights."""
    model = onnx.load(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return [n for n in dict.fromkeys(n for node in nodes for n in node.input) if n not in constants]


CHILD = """
import sys
from pathlib import Path
from swin_deploy.data.samples import find_calibration, read_batches
from swin_deploy.graph.int8 import observe as calibrate
from swin_deploy.network.catalogue import Preprocessing

graph, folder, cache, *tensors = sys.argv[1:]
calibrate.SAVE_EVERY_S = 0
found = find_calibration(Path(folder))
size, preprocessing = (64, 64), Preprocessing(crop=1.0)
batches = lambda: read_batches(found, size, preprocessing, 4)
identity = found.identity(size, preprocessing)
say = lambda what, done, total: print(done, flush=True)
calibrate.collect_statistics(Path(graph), tensors, batches, Path(cache), identity, say)
"""


@pytest.mark.fault(39)
def test_a_killed_calibration_of_photos_counts_as_if_it_had_not_been(
    pocket_run: RunResult, photos: Path, tmp_path: Path
) -> None:
    graph, cache = pocket_run.path / "model.onnx", tmp_path / "cache.npz"
    tensors = products(graph)
    found = find_calibration(photos)
    size, preprocessing = POCKET.config.image_size, POCKET.preprocessing

    def batches() -> Iterator[np.ndarray]:
        return read_batches(found, size, preprocessing, 4)

    expected = collect_statistics(graph, tensors, batches, None, {})
    command = [sys.executable, "-c", CHILD, str(graph), str(photos), str(cache), *tensors]
    generator = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(generator.randint(2, 15)):
            assert process.stdout.readline()
        time.sleep(generator.uniform(0, 0.02))  # before, within or after the next saving
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    identity, notes = found.identity(size, preprocessing), list[str]()
    resumed = collect_statistics(graph, tensors, batches, cache, identity, note=notes.append)
    assert_same(resumed, expected)
    (note,) = notes
    assert "calibration goes on after" in note
    assert len(expected) > 20
    assert next(iter(expected.values())).images == len(found)


MEMORY = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from swin_deploy.graph.int8.observe import collect_statistics

    graph, count, *tensors = sys.argv[1:]
    batches = lambda: (np.full((4, 3, 64, 64), i, dtype=np.float32) for i in range(int(count)))
    collect_statistics(Path(graph), tensors, batches, None, {})
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    """
)


@pytest.mark.fault(37)
def test_memory_does_not_grow_with_the_images(pocket_run: RunResult) -> None:
    """All tensors of 400 images of this network are 570 MB."""
    graph = pocket_run.path / "model.onnx"
    kib = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, str(graph), str(count), *products(graph)],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        for count in (3, 100)
    ]
    assert kib[1] - kib[0] < 64 * 1024
