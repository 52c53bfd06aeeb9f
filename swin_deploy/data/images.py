"""A photo -> the tensor that the network expects, by the same path wherever photos are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swin_deploy.data.pixels import normalise
from swin_deploy.errors import (
    ConfigError,
    EnvironmentMissingError,
    FileAccessError,
    InputError,
    typed,
)
from swin_deploy.metrics import FloatArray
from swin_deploy.plain_files import open_plain
from swin_deploy.preprocessing import Preprocessing, Size

if TYPE_CHECKING:  # Pillow is imported by what uses it: a device that reads no photos needs none
    from PIL import Image

# Decoders that take untrusted files. Not EPS, which runs an interpreter, whatever the file's name.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# Pillow's numbers of these filters, the same in every version; their names moved in 9.1, and
# JetPack 6 has 9.0.
_RESAMPLING = {"bilinear": 2, "bicubic": 3}
_MODES = {1: "L", 3: "RGB"}
_16_BIT_TO_8 = 1 / 257  # 65535 -> 255


def require_pillow() -> None:
    """Check that photos can be read here.

    Raises:
        EnvironmentMissingError: There is no Pillow, or it does not load.
    """
    try:
        import PIL.Image  # noqa: F401  # and its native part
    except ImportError as error:
        raise EnvironmentMissingError(
            f"photos are read with Pillow, which is not here: {error}",
            "sudo apt install python3-pil, or pip install pillow",
        ) from error


def load_photo(path: Path, size: Size, preprocessing: Preprocessing) -> FloatArray:
    """Decode, resize, crop and normalise one photo.

    The EXIF orientation is applied, transparency is laid over white, 16-bit samples are scaled to
    8 bits, of an animation the first frame counts. The resize keeps the aspect ratio and covers
    ``size / crop``, or squashes the photo to just that; the centre of it is cut out.

    Args:
        path: A file of one of ``FORMATS``, told by its content.
        size: (height, width), in pixels.
        preprocessing: Crop, filter, mean and std; one mean per channel.

    Returns:
        (channels, height, width), float32, normalised.

    Raises:
        ConfigError: The network takes neither 1 nor 3 channels.
        InputError: The file is no photo, is damaged, or is too large to be one.
        EnvironmentMissingError: There is no Pillow here.
    """
    require_pillow()
    from PIL import Image

    try:
        open_plain(path).close()  # Pillow would wait for a pipe
        with Image.open(path, formats=FORMATS) as file:
            return prepare_photo(file, size, preprocessing)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:  # Pillow's plugins have no errors in common
        known = typed(error)
        if known is not None and not isinstance(known, FileAccessError):
            raise known from error
        raise InputError(f"{path} cannot be read as a photo: {error}") from error


def prepare_photo(photo: Image.Image, size: Size, preprocessing: Preprocessing) -> FloatArray:
    """As ``load_photo``, of a photo that is open.

    Raises:
        ConfigError: The network takes neither 1 nor 3 channels.
        OSError: The photo is damaged; of its many errors, one.
    """
    from PIL import ImageOps

    channels = len(preprocessing.mean)
    if channels not in _MODES:
        raise ConfigError(
            f"photos have 1 or 3 channels, the network takes {channels}", "no --images"
        )
    opaque = _opaque(ImageOps.exif_transpose(_eight_bits(photo)))
    resized = _resize_and_crop(opaque.convert(_MODES[channels]), size, preprocessing)
    pixels = np.asarray(resized, dtype=np.uint8).reshape(1, *size, channels)
    images = normalise(pixels, preprocessing.mean, preprocessing.std)
    return images.reshape(channels, *size)


def _eight_bits(photo: Image.Image) -> Image.Image:
    from PIL import Image

    if photo.mode.startswith("I"):  # 16-bit samples; Pillow's own conversion would clip them
        return Image.fromarray((np.asarray(photo) * _16_BIT_TO_8).clip(0, 255).astype(np.uint8))
    return photo


def _transparent(photo: Image.Image) -> bool:
    """What Pillow 10.1 and newer call ``has_transparency_data``."""
    if photo.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in photo.info:
        return True
    return photo.mode == "P" and photo.palette is not None and photo.palette.mode.endswith("A")


def _opaque(photo: Image.Image) -> Image.Image:
    from PIL import Image

    if not _transparent(photo):
        return photo.convert("RGB")
    layer = photo.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _resize_and_crop(photo: Image.Image, size: Size, preprocessing: Preprocessing) -> Image.Image:
    height, width = size
    resized = math.floor(width / preprocessing.crop), math.floor(height / preprocessing.crop)
    if preprocessing.crop_mode == "center":
        scale = max(resized[1] / photo.height, resized[0] / photo.width)
        resized = max(width, round(photo.width * scale)), max(height, round(photo.height * scale))
    photo = photo.resize(resized, _RESAMPLING[preprocessing.interpolation])
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))
