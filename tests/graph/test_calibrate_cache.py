"""What a calibration has counted is kept, goes on after a kill, and is checked before use."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import POCKET
from swin_deploy.core.errors import InputError
from swin_deploy.data.samples import find_calibration, read_batches
from swin_deploy.graph.int8 import observe as calibrate
from swin_deploy.graph.int8.observe import SCHEMA_VERSION, collect_statistics
from swin_deploy.pipeline.run import RunResult
from toy_graphs import IMAGES, assert_same, batches_of, collect, products


def never() -> Iterable[np.ndarray]:
    raise AssertionError("the cache was not used")


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
    with pytest.raises(InputError, match=r"counted 7 .* there are 2"):
        collect(toy(), batches_of(4, IMAGES[:2]), cache, {})


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
