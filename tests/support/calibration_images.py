"""Images to calibrate on: what is read of a set, and arrays in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swin_deploy.data.samples import CalibrationSet, read_batches
from swin_deploy.network.interface import Preprocessing

SIZE = (8, 8)
PLAIN = Preprocessing(crop=1.0)


def stacked(calibration: CalibrationSet, batch: int = 4) -> np.ndarray:
    return np.concatenate(list(read_batches(calibration, SIZE, PLAIN, batch)))


def save(path: Path, images: np.ndarray) -> Path:
    np.save(path, images, allow_pickle=True)
    return path


def some_images(count: int = 5, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, channels, *SIZE), dtype=np.float32)
