"""What of the TensorRT runner can be seen without a GPU.

Bytes through its memory, when it captures a CUDA graph, and the cache of TensorRT-RTX. Its calls of
TensorRT are in test_tensorrt_contract.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, ResourceError
from swin_deploy.engine.runners.staging import Staging
from swin_deploy.engine.runners.tensorrt import (
    TensorRtRunner,
    _Lane,
    kernel_cache_file,
    kernel_cache_folder,
    read_kernel_cache,
    write_kernel_cache,
)
from swin_deploy.network.interface import BatchRange

SHAPES = {"image": (3,), "logits": (3,), "classes": (2,)}
DTYPES = {"image": np.dtype("f4"), "logits": np.dtype("f2"), "classes": np.dtype("i8")}


class Context:
    """In the place of an execution context: writes down what it is asked."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.works = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.log.append(shape)
        return self.works

    def execute_async_v3(self, stream: int) -> bool:
        self.log.append("kernels")
        return self.works


def make_lane(log: list[Any], undo: ExitStack, graph: bool = True) -> tuple[_Lane, Context]:
    context = Context(log)
    staging = Staging("image", SHAPES, DTYPES, 4, undo)
    lane = _Lane(context, staging, "image", SHAPES["image"], graph)
    undo.callback(lane.drop_graph)
    return lane, context


@pytest.fixture
def log(shim: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a lane does with graphs, in order, between what it asks its context."""
    from swin_deploy.engine.runners.cuda import Graph, Stream

    written: list[Any] = []

    def spy_on(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def spy(*given: Any) -> Any:
            written.append(name)
            return real(*given)

        monkeypatch.setattr(owner, name, spy)

    spy_on(Stream, "begin_capture")
    spy_on(Graph, "launch")
    spy_on(Graph, "free")
    return written


def images(count: int) -> np.ndarray:
    return np.arange(3 * count, dtype=np.float32).reshape(count, 3)


@pytest.mark.parametrize("timed", [False, True])
def test_images_go_in_and_outputs_come_out(shim: Any, timed: bool) -> None:
    with ExitStack() as undo:
        staging = Staging("image", SHAPES, DTYPES, 4, undo)

        def send(count: int) -> bool:
            """Finds the images on the device, and puts known outputs there."""
            for name, value in outputs.items():
                memory = np.ascontiguousarray(value.astype(DTYPES[name]))
                ctypes.memmove(staging.addresses[name], memory.ctypes.data, memory.nbytes)
            found.append(ctypes.string_at(staging.addresses["image"], 12 * count))
            return True

        for count in (2, 4, 1):
            outputs = {"logits": images(count) / 2, "classes": images(count)[:, :2].astype("i8")}
            found: list[bytes] = []
            answer, timing = staging.run(images(count), send, timed)
            assert found == [images(count).tobytes()]
            assert answer["logits"].dtype == np.float32
            assert answer["classes"].dtype == np.int64
            for name, value in outputs.items():
                assert np.array_equal(answer[name], value)
            assert (timing is not None) == timed
    assert timing is None or timing.cuda_graph


def test_a_graph_is_captured_at_the_second_call_and_dropped_with_the_shape(log: list[Any]) -> None:
    first = ["kernels"]
    second = ["begin_capture", "kernels", "launch"]
    with ExitStack() as undo:
        lane, _ = make_lane(log, undo)
        for count, expected in (
            (1, [(1, 3), *first]),
            (1, second),
            (1, ["launch"]),
            (2, ["free", (2, 3), *first]),
            (1, [(1, 3), *first]),
            (1, second),
        ):
            log.clear()
            lane.run(images(count), False)
            assert log == expected
        assert lane.problem == ""
        log.clear()
    assert log == ["free"]


def test_without_graphs_nothing_is_captured(log: list[Any]) -> None:
    with ExitStack() as undo:
        lane, _ = make_lane(log, undo, graph=False)
        for _ in range(3):
            lane.run(images(1), False)
    assert log == [(1, 3), "kernels", "kernels", "kernels"]


def test_what_cannot_be_captured_runs_without_and_says_why(
    log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise EnvironmentMissingError("CUDA failed: a reason")

    monkeypatch.setattr("swin_deploy.engine.runners.cuda.Stream.end_capture", refuse)
    with ExitStack() as undo:
        lane, _ = make_lane(log, undo)
        for _ in range(3):
            lane.run(images(1), False)
    assert lane.problem == "no CUDA graph: CUDA failed: a reason"
    assert log == [(1, 3), "kernels", "begin_capture", "kernels", "kernels", "kernels"]


def test_an_engine_that_fails_is_an_error(log: list[Any]) -> None:
    with ExitStack() as undo:
        lane, context = make_lane(log, undo)
        context.works = False
        with pytest.raises(ResourceError, match="refuses a batch of 1"):
            lane.run(images(1), False)
        context.works = True
        lane.run(images(1), False)
        context.works = False
        log.clear()
        with pytest.raises(ResourceError, match="failed on the GPU"):
            lane.run(images(1), False)
        assert log == ["begin_capture", "kernels", "free", "kernels"]


class Meeting(Context):
    """Copies the image to the logits, when another context does the same at the same time."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__([])
        self.barrier = barrier
        self.staging: Staging | None = None
        self.busy = threading.Lock()

    def execute_async_v3(self, stream: int) -> bool:
        assert self.staging is not None
        assert self.busy.acquire(blocking=False), "two calls at once in one context"
        self.barrier.wait(timeout=30)
        address = self.staging.addresses
        ctypes.memmove(address["logits"], address["image"], 12)
        self.busy.release()
        return True


def test_threads_borrow_contexts(shim: Any, tmp_path: Path) -> None:
    shapes, dtypes = {"image": (3,), "logits": (3,)}, dict.fromkeys(SHAPES, np.dtype("f4"))
    runner = TensorRtRunner(tmp_path / "x.plan", "tensorrt", "x", contexts=2, cuda_graph=False)
    barrier = threading.Barrier(2)
    with ExitStack() as undo:
        runner._input, runner._shapes, runner._dtypes = "image", shapes, dtypes
        runner._batch, runner._free, runner._lanes = BatchRange(), queue.LifoQueue(), []
        for index in range(2):
            context, staging = Meeting(barrier), Staging("image", shapes, dtypes, 1, undo)
            context.staging = staging
            runner._lanes.append(_Lane(context, staging, "image", (3,), False))
            runner._free.put(index)
        calls = [np.full((1, 3), number, np.float32) for number in range(20)]
        with ThreadPoolExecutor(5) as pool:
            found = list(pool.map(lambda given: runner.run(given)["logits"], calls))
        assert all(np.array_equal(*pair) for pair in zip(found, calls, strict=True))
        with pytest.raises(ConfigError, match="takes float32, got float64"):
            runner.run(calls[0].astype(np.float64))
        with pytest.raises(ConfigError, match="takes images of"):
            runner.run(calls[0][:, :2])
        assert runner._free.qsize() == 2


def test_contexts_are_counted_from_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contexts = 0"):
        TensorRtRunner(tmp_path / "x.plan", "tensorrt", "x", contexts=0)


def test_a_cache_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bin"
    assert read_kernel_cache(path) == (b"", "")
    assert write_kernel_cache(path, b"kernels") == ""
    assert read_kernel_cache(path) == (b"kernels", "")
    assert [file.name for file in path.parent.iterdir()] == ["x.bin"]


@pytest.mark.fault(35)
@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:9], lambda c: c[:40] + b"?"])
def test_a_damaged_cache_is_not_used(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "x.bin"
    write_kernel_cache(path, b"kernels and more kernels")
    path.write_bytes(damage(path.read_bytes()))
    blob, note = read_kernel_cache(path)
    assert blob == b""
    assert "damaged" in note


def test_where_nothing_can_be_kept_that_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "not kept" in write_kernel_cache(tmp_path / "file" / "x.bin", b"kernels")
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in read_kernel_cache(tmp_path / "folder")[1]


def test_another_engine_device_or_version_has_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = kernel_cache_folder()
    assert folder == tmp_path / "swin-deploy" / "rtx"
    names = {
        kernel_cache_file(folder, engine, device, version)
        for engine in ("0" * 64, "1" * 64)
        for device in ("NVIDIA A10, driver 13.0", "NVIDIA A10, driver 12.8")
        for version in ("1.7", "1.8")
    }
    assert len(names) == 8
