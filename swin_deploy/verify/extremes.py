"""Images that no camera takes, and what networks are held to on them.

Black and flat frames, saturated channels, and values far outside of what normalised photos have:
where a graph divides by a spread that is zero, or selects by a threshold, noise and photos show
nothing. Every gate has them: ``export``, ``verify`` and the build on a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from swin_deploy.data.inputs import InputSet, make_noise
from swin_deploy.data.pixels import ImageInput, normalise
from swin_deploy.judge import FLOORS
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.preprocessing import Preprocessing, Size
from swin_deploy.verify.comparison import EXTREMES, NO_PHOTOS, Comparison, names_extreme

SPIKE = 10.0  # standard deviations; pixels of photos are within 3


def is_extreme(images: InputSet) -> bool:
    """Whether a set is one of ``make_extremes``, by its name: also one that was saved."""
    return names_extreme(images.name)


def make_extremes(taken: ImageInput, preprocessing: Preprocessing, size: Size) -> list[InputSet]:
    """Sets of images, the same for the same arguments, (b, channels, H, W) float32 each.

    Black; white; grey; every channel alone at 255 and alone at 0; pixels at 0 and 255 in turn;
    uniform noise of pixels. Graphs that do not take pixels get normal noise with some values of
    ``SPIKE`` as well, which no pixel becomes.

    Args:
        taken: What the graphs take; the images are exact in it.
        preprocessing: Whose mean and std pixels are normalised with, one each per channel.
        size: Of the images.
    """
    (h, w), c = size, len(preprocessing.mean)
    flat = np.zeros((1, h, w, c), np.uint8)
    saturated = np.zeros((2 * c, h, w, c), np.uint8)
    for channel in range(c):
        saturated[channel, ..., channel] = 255
        saturated[c + channel] = 255
        saturated[c + channel, ..., channel] = 0
    rows, columns = np.indices((h, w))
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    pixels: tuple[NDArray[np.uint8], ...] = (
        flat,
        flat + np.uint8(255),
        flat + np.uint8(128),
        saturated,
        np.repeat(board[None, ..., None], c, axis=3),
        np.random.default_rng((c, h, w)).integers(0, 256, (2, h, w, c), dtype=np.uint8),
    )
    images = [normalise(some, preprocessing.mean, preprocessing.std) for some in pixels]
    if taken.io != "uint8":
        images.append(_with_spikes(make_noise(2, c, size).images))
    return [
        InputSet(f"{name} x{len(some)}", taken.round(some))
        for name, some in zip(EXTREMES, images, strict=False)
    ]


def _with_spikes(noise: FloatArray) -> FloatArray:
    """One value in a hundred, far up in the first image and far down in the others."""
    flat = noise.reshape(len(noise), -1).copy()
    flat[0, ::100], flat[1:, ::100] = SPIKE, -SPIKE
    return flat.reshape(noise.shape)


def takes_part(precision: Precision, images: InputSet) -> bool:
    """Whether a precision is compared on a set: INT8 not on noise, which its ranges are not of."""
    if images.only and precision not in images.only:
        return False
    return precision != "int8" or images.natural or is_extreme(images)


def hold(rows: Iterable[Comparison], precision: Precision) -> list[Comparison]:
    """Comparisons on extremes by the floors of those; INT8 has to be finite there, no more."""
    if precision == "int8":
        return [row.not_judged(NO_PHOTOS) for row in rows]
    return [replace(row, floor_db=FLOORS["extreme"][precision]) for row in rows]
