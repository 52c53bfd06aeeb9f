"""Pixels with any number of channels -> the tensor that a network expects."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import InputError
from swin_deploy.data.npy import read_npy
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from PIL import Image

ARRAY = ".npy"  # how the name of a photo ends that is an array
_MOST_BYTES = 1 << 30  # of an array: 12 bands of 4700x4700 floats
# Pillow's numbers of these filters, the same in every version; their names moved in 9.1, and
# JetPack 6 has 9.0.
_RESAMPLING = {"lanczos": 1, "bilinear": 2, "bicubic": 3}
# dtype -> what makes 0 to 1 of it; floats are taken as they are, in the unit of mean and std.
_RANGES = {"uint8": 255.0, "uint16": 65535.0, "float16": 1.0, "float32": 1.0, "float64": 1.0}


def normalise(
    pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> FloatArray:
    """(b, H, W, channels) -> (pixels / 255 - mean) / std, (b, channels, H, W) float32."""
    return _scaled(pixels.astype(np.float32) / 255, mean, std)


def _scaled(values: FloatArray, mean: tuple[float, ...], std: tuple[float, ...]) -> FloatArray:
    means, stds = (np.asarray(each, dtype=np.float32) for each in (mean, std))
    return np.ascontiguousarray(((values - means) / stds).transpose(0, 3, 1, 2))


def resize_and_crop(photo: Image.Image, size: Size, preprocessing: Preprocessing) -> Image.Image:
    """The part of a photo that a network sees, ``size`` (H, W) pixels, in the mode of the photo."""
    height, width = size
    resized = math.floor(width / preprocessing.crop), math.floor(height / preprocessing.crop)
    if preprocessing.crop_mode == "center":
        scale = max(resized[1] / photo.height, resized[0] / photo.width)
        resized = max(width, round(photo.width * scale)), max(height, round(photo.height * scale))
    photo = photo.resize(resized, _RESAMPLING[preprocessing.interpolation])
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def read_pixels(path: Path, channels: int) -> NDArray[Any]:
    """The pixels in an ``.npy`` file, (H, W, c), c as ``as_pixels`` has it."""
    hint = f"(H, W, {channels}) or ({channels}, H, W) of uint8, uint16 or float, of np.save"
    try:
        return as_pixels(read_npy(path, _MOST_BYTES, hint), channels)
    except InputError as error:
        problem = error.problem.removeprefix(f"{path} ")
        raise type(error)(f"{path}: {problem}", error.hint or hint) from error


def as_pixels(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """An array as (H, W, c): c is ``channels``; of uint8 also 1 or 3, where that is the other.

    Args:
        array: (H, W), (H, W, c) or (c, H, W); uint8, uint16 or float.
        channels: That the network takes, by which the axis of the channels is told.
    """
    if array.dtype.name not in _RANGES:
        raise InputError(f"it is {array.dtype}, none of {', '.join(_RANGES)}")
    taken = {channels}
    if array.dtype == np.uint8 and channels in (1, 3):
        taken = {1, 3}  # grey becomes colour, and colour grey, as of other photos
    if array.ndim == 2 and 1 in taken:
        array = array[:, :, None]
    last = array.ndim == 3 and array.shape[2] in taken
    first = array.ndim == 3 and array.shape[0] in taken
    if last and first and array.shape[0] != array.shape[2]:
        first = array.shape[0] == channels != array.shape[2]
        last = not first
    if not (first or last) or not array.size:
        raise InputError(f"its shape is {array.shape}, and the network takes {channels} channels")
    if first and last:
        raise InputError(f"its shape is {array.shape}: its channels may be the first or the last")
    array = array if last else array.transpose(1, 2, 0)
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        raise InputError("it holds values that are NaN or infinite")
    return array


def prepare_pixels(pixels: NDArray[Any], size: Size, preprocessing: Preprocessing) -> FloatArray:
    """Resize, crop and normalise pixels, band by band.

    Bytes stay bytes, so that a graph can take them as pixels; other bands are resized as floats.

    Args:
        pixels: (H, W, channels) of ``as_pixels``.
        size: (height, width), in pixels.
        preprocessing: With a mean and a std for every channel; of floats they are in their unit.

    Returns:
        (channels, height, width) float32, normalised.
    """
    from PIL import Image

    bands = [np.ascontiguousarray(band) for band in pixels.transpose(2, 0, 1)]
    if pixels.dtype != np.uint8:
        bands = [(band / _RANGES[pixels.dtype.name]).astype(np.float32) for band in bands]
    cut = [
        np.asarray(resize_and_crop(Image.fromarray(band), size, preprocessing)) for band in bands
    ]
    whole, mean, std = np.stack(cut, axis=-1)[None], preprocessing.mean, preprocessing.std
    images = (normalise if pixels.dtype == np.uint8 else _scaled)(whole, mean, std)
    return images.reshape(len(mean), *size)
