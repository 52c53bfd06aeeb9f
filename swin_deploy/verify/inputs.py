"""What ``verify`` hands to both sides: photos, noise in several batch sizes, and extremes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from swin_deploy.batches import BatchRange
from swin_deploy.data.inputs import InputSet, PhotoFolder, load_photos, make_noise_for
from swin_deploy.data.pixels import normalise
from swin_deploy.metrics import FloatArray
from swin_deploy.run.finished import Run

ODD_SIZES = (3, 5, 7)
EXTREMES = ("black", "white", "saturated", "checkerboard", "pixel noise")
AT_ONCE = 32  # photos in a set, so that a row of a report says where among many the worst is


def batch_sizes(batch: BatchRange) -> tuple[int, ...]:
    """Numbers of images to compare on.

    Of a dynamic graph both ends and the odd sizes between; of a static one its batch, and then
    several calls of which the last is short.
    """
    if batch.static:
        return batch.checked_sizes
    between = [size for size in ODD_SIZES if batch.low < size < batch.high]
    return tuple(dict.fromkeys((batch.low, *between, batch.high)))


def make_extremes(opened: Run) -> list[InputSet]:
    """Images that no camera takes, as pixels from 0 to 255, normalised as photos are.

    Black; white; every channel alone at 255 and alone at 0; pixels at 0 and 255 in turn; and
    uniform noise of pixels.
    """
    config = opened.config
    (h, w), c = config.image_size, config.in_channels
    flat = np.zeros((1, h, w, c), np.uint8)
    saturated = np.zeros((2 * c, h, w, c), np.uint8)
    for channel in range(c):
        saturated[channel, ..., channel] = 255
        saturated[c + channel] = 255
        saturated[c + channel, ..., channel] = 0
    rows, columns = np.indices((h, w))
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    generator = np.random.default_rng((c, h, w))
    pixels: tuple[NDArray[np.uint8], ...] = (
        flat,
        flat + np.uint8(255),
        saturated,
        np.repeat(board[None, ..., None], c, axis=3),
        generator.integers(0, 256, (2, h, w, c), dtype=np.uint8),
    )
    return [
        InputSet(f"{name} x{len(images)}", _as_taken(opened, images))
        for name, images in zip(EXTREMES, pixels, strict=True)
    ]


def is_extreme(images: InputSet) -> bool:
    """Whether a set is one of ``make_extremes``, by its name: also one that was saved."""
    return images.name.rpartition(" x")[0] in EXTREMES


def make_inputs(
    opened: Run, sizes: tuple[int, ...], photos: PhotoFolder | None
) -> tuple[list[InputSet], list[str]]:
    """All sets of images, noise first, and why photos were left out.

    All are exact in the input of every graph of the run, so that all get the same images.

    Raises:
        InputError: Too many photos cannot be read.
    """
    config = opened.config
    inputs = [
        make_noise_for(opened.images, size, config.in_channels, config.image_size) for size in sizes
    ]
    inputs += make_extremes(opened)
    if photos is None:
        return inputs, []
    loaded, problems = load_photos(photos, config.image_size, opened.preprocessing)
    images = opened.images.round(loaded.images)
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        name = f"photos {start + 1}-{start + len(part)}"
        inputs.append(InputSet(name, part, natural=True))
    return inputs, problems


def _as_taken(opened: Run, pixels: NDArray[np.uint8]) -> FloatArray:
    steps = opened.preprocessing
    return opened.images.round(normalise(pixels, steps.mean, steps.std))
