"""Images of every kind that callers have -> the tensors that the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_deploy.errors import InputError
from swin_deploy.metrics import FloatArray

if TYPE_CHECKING:
    from swin_deploy.preprocessing import Preprocessing, Size


def list_images(images: Any) -> tuple[Sequence[Any], list[str | None]]:
    """Images as ``SwinEngine`` takes them -> one item for each, and their names.

    Returns:
        Items for ``prepare_images``, at least one, and a path or None for each.

    Raises:
        InputError: There are none, or it is of no kind that holds images.
    """
    if isinstance(images, np.ndarray):
        if images.dtype == np.uint8 and images.ndim == 3:
            items: Sequence[Any] = [images]
        elif images.ndim == 4 and images.dtype in (np.uint8, np.float32):
            items = images  # type: ignore[assignment]
        else:
            raise InputError(
                f"an array of {images.dtype} {images.shape} is no images",
                "uint8 (H, W, channels) or (b, H, W, channels), or float32 (b, channels, H, W)",
            )
    elif isinstance(images, Sequence) and not isinstance(images, str):
        items = images
    else:
        items = [images]
    if not len(items):
        raise InputError("there are no images")
    return items, [str(item) if isinstance(item, str | Path) else None for item in items]


def prepare_images(items: Sequence[Any], size: Size, preprocessing: Preprocessing) -> FloatArray:
    """What the network sees of them: (b, channels, H, W) float32.

    Args:
        items: Paths, Pillow images and uint8 pixels (H, W, channels), which are all prepared as
            photos; or float32 (channels, H, W), taken as they are.
        size: (H, W), in pixels.
        preprocessing: Of photos.

    Raises:
        InputError: One cannot be read, or is of another kind or shape.
    """
    if isinstance(items, np.ndarray) and items.dtype == np.float32:
        _require_shape(items[0], size, preprocessing)
        return items
    return np.stack([_prepare(item, size, preprocessing) for item in items])


def _require_shape(image: FloatArray, size: Size, preprocessing: Preprocessing) -> FloatArray:
    if image.shape != (expected := (len(preprocessing.mean), *size)):
        raise InputError(
            f"the network takes float32 images of {expected}, got {image.shape}",
            "photos or uint8 pixels, which are resized",
        )
    return image


def _prepare(item: Any, size: Size, preprocessing: Preprocessing) -> FloatArray:
    channels = len(preprocessing.mean)
    if isinstance(item, np.ndarray) and item.dtype == np.float32:
        return _require_shape(item, size, preprocessing)
    from PIL import Image

    from swin_deploy.data.images import load_photo, prepare_photo

    if isinstance(item, str | Path):
        return load_photo(Path(item), size, preprocessing)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != channels:
            raise InputError(
                f"the network takes pixels of (H, W, {channels}) uint8, got {item.dtype} "
                f"{item.shape}"
            )
        item = Image.fromarray(item[:, :, 0] if channels == 1 else item)
    if not isinstance(item, Image.Image):
        raise InputError(f"a {type(item).__name__} is no image", "a path, Pillow image or array")
    try:
        return prepare_photo(item, size, preprocessing)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"a Pillow image cannot be read: {error}") from error
