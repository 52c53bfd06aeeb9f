"""Normalised images -> what a graph takes, without a rounding of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.errors import InputError
from swin_deploy.interface import Io
from swin_deploy.metrics import FloatArray

# How far a normalised value may be from a pixel, in pixels. FP32 leaves about 2e-5 of 255.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input of a graph.

    Attributes:
        io: As ``Interface.io_of`` has it.
        mean: Per channel, of pixels from 0 to 1; what "uint8" is normalised with.
        std: Per channel.
    """

    io: Io = "fp32"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """Normalised images (b, channels, H, W) float32 -> the same ones as the graph takes them.

        Raises:
            InputError: It cannot take just these: they are no pixels, or no float16 numbers.
        """
        if self.io == "uint8":
            return self._to_pixels(images)
        if self.io == "fp16":
            half = images.astype(np.float16)
            if not np.array_equal(half.astype(np.float32), images):
                raise InputError("the images are not exact in float16, which the graph takes")
            return half
        return images

    def round(self, images: FloatArray) -> FloatArray:
        """The nearest images that a graph in float16 takes; pixels and float32 are left alone."""
        return images.astype(np.float16).astype(np.float32) if self.io == "fp16" else images

    def _to_pixels(self, images: FloatArray) -> NDArray[np.uint8]:
        mean, std = (np.asarray(v, dtype=np.float64) for v in (self.mean, self.std))
        values = (images.transpose(0, 2, 3, 1) * std + mean) * 255
        pixels = np.rint(values)
        if (
            not (np.abs(values - pixels) < _TOLERANCE).all()
            or pixels.min() < 0
            or pixels.max() > 255
        ):
            raise InputError(
                "the images are not normalised pixels, and the graph takes pixels from 0 to 255"
            )
        return np.ascontiguousarray(pixels.astype(np.uint8))


FP32_INPUT = ImageInput()


def as_float32(output: NDArray[Any]) -> NDArray[Any]:
    """An output of a graph, float32 where it is float16; integers stay."""
    return output.astype(np.float32) if output.dtype == np.float16 else output


def normalise(
    pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> FloatArray:
    """(b, H, W, channels) -> (pixels / 255 - mean) / std, (b, channels, H, W) float32."""
    scaled = pixels.astype(np.float32) / 255
    means, stds = (np.asarray(values, dtype=np.float32) for values in (mean, std))
    return np.ascontiguousarray(((scaled - means) / stds).transpose(0, 3, 1, 2))
