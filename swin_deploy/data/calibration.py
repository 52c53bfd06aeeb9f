"""Where the images that INT8 is calibrated on come from: a seeded sample of real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from swin_deploy.data.sample import ImageSample, find_sample, read_images
from swin_deploy.metrics import FloatArray
from swin_deploy.preprocessing import Preprocessing, Size

FEW_IMAGES = 100  # below this the ranges depend on which images they were
CalibrationSet = ImageSample


def find_calibration(
    source: Path,
    count: int | None = None,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
) -> CalibrationSet:
    """The images to calibrate on; arguments and errors of ``find_sample``."""
    return find_sample(source, "calibration", count, seed, FEW_IMAGES, shape)


def read_batches(
    sample: ImageSample,
    size: Size,
    preprocessing: Preprocessing,
    batch: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[FloatArray]:
    """The images in order, (b, channels, H, W) float32, ``batch`` at a time, the last maybe fewer.

    Arguments and errors of ``read_images``.
    """
    held: list[FloatArray] = []
    for _, image in read_images(sample, size, preprocessing, note):
        held.append(image)
        if len(held) == batch:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
