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
        if images.dtype == np.uint8 and images.ndim in (2, 3):
            items: Sequence[Any] = [images]
        elif images.ndim == 4 and images.dtype in (np.uint8, np.float32):
            items = images  # type: ignore[assignment]
        else:
            raise InputError(
                f"an array of {images.dtype} {images.shape} is no images",
                "uint8 (H, W), (H, W, 1 or 3) or (b, H, W, 1 or 3), or float32 (b, channels, H, W)",
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
        items: Paths, Pillow images and uint8 pixels, grey (H, W) or (H, W, 1) or RGB (H, W, 3),
            which are all prepared as photos; or float32 (channels, H, W), taken as they are.
        size: (H, W), in pixels.
        preprocessing: Of photos.

    Raises:
        InputError: One cannot be read, or is of another kind or shape.
        EnvironmentMissingError: There is no Pillow here, and some have to be prepared.
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
    if isinstance(item, np.ndarray) and item.dtype == np.float32:
        return _require_shape(item, size, preprocessing)
    from swin_deploy.data.images import load_photo, prepare_photo, require_pillow

    if isinstance(item, str | Path):
        return load_photo(Path(item), size, preprocessing)
    require_pillow()
    from PIL import Image

    if isinstance(item, np.ndarray):
        colours = item.shape[2] if item.ndim == 3 else 1
        if item.dtype != np.uint8 or item.ndim not in (2, 3) or colours not in (1, 3):
            raise InputError(
                f"pixels are (H, W), (H, W, 1) or (H, W, 3) uint8, got {item.dtype} {item.shape}"
            )
        if not item.size:
            raise InputError(f"an array of {item.shape} has no pixels")
        item = Image.fromarray(item[:, :, 0] if item.ndim == 3 and colours == 1 else item)
    if not isinstance(item, Image.Image):
        raise InputError(f"a {type(item).__name__} is no image", "a path, Pillow image or array")
    try:
        return prepare_photo(item, size, preprocessing)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"a Pillow image cannot be read: {error}") from error
