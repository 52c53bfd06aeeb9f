"""Calls of an engine: batches that are split, threads that share workers, what is no image."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS
from echoes import COLOUR, EchoRunner, digit_photos
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.interface import BatchRange
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.bench import bench_engine
from swin_deploy.runtime.trust import UnpackedBundle


def test_the_digits_are_read(digits_engine: SwinEngine, photos: Path) -> None:
    """Names of the files end in the digit that they show; larger batches than 4 are split."""
    files = digit_photos(photos)
    assert len(files) > digits_engine.batch == 4
    prediction = digits_engine(files)
    shown = [DIGITS[int(path.stem[-1])] for path in files]
    assert np.mean([row[0] for row in prediction.labels] == np.array(shown)) > 0.9
    assert len(prediction) == len(files)
    assert prediction.classes.shape == prediction.scores.shape == (len(files), 5)
    assert prediction.names == tuple(map(str, files))
    assert prediction.probabilities
    assert (np.diff(prediction.scores, axis=1) <= 0).all()
    alone = np.concatenate([digits_engine(path).logits for path in files])
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
    with pytest.raises(ConfigError, match=f"{name} = {count}"):
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
    with pytest.raises(ConfigError, match=r"SwinEngine\.maps"):
        backbone(images)
    with pytest.raises(ConfigError, match="gives classes and no maps"):
        SwinEngine(shipped, "fp32", Path("none"), runner).maps(images)


def test_bench_gives_percentiles(digits_engine: SwinEngine) -> None:
    timing = bench_engine(digits_engine, None, 0.05)
    assert timing.batch == 4
    assert timing.calls >= 1
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms
    for batch in (0, 5):
        with pytest.raises(ConfigError, match=f"1:4, not {batch}"):
            bench_engine(digits_engine, batch, 0.05)
    with pytest.raises(ConfigError, match="seconds = nan"):
        bench_engine(digits_engine, 1, float("nan"))
