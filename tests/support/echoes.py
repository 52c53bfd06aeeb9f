"""A runner that gives back what it is given; a bundle and photos of digits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swin_deploy.network.interface import BatchRange, Preprocessing
from swin_deploy.runtime import SwinEngine
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
def digits_engine(digits_folder: Path) -> Any:
    with SwinEngine.load(digits_folder, threads=1) as opened:
        yield opened


def digit_photos(photos: Path) -> list[Path]:
    return sorted(photos.glob("mnist_*.png"))
