"""Images of every kind that callers have -> tensors; and logits -> predictions, with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import InputError, present
from swin_deploy.network.interface import CLASSES, LOGITS, PROBABILITIES, SCORES, Interface, Task
from swin_deploy.network.judge import FloatArray, sigmoid, softmax

if TYPE_CHECKING:
    from swin_deploy.network.interface import Preprocessing, Size


def list_images(images: Any) -> tuple[Sequence[Any], list[str | None]]:
    """Images as ``SwinEngine`` takes them -> one item for each, and their names.

    Returns:
        Items for ``prepare_images``, at least one, and a path or None for each.
    """
    if isinstance(images, np.ndarray):
        if images.dtype in (np.uint8, np.uint16) and images.ndim in (2, 3):
            items: Sequence[Any] = [images]
        elif images.ndim == 4 and images.dtype in (np.uint8, np.uint16, np.float32):
            items = images  # type: ignore[assignment]
        else:
            raise InputError(
                f"an array of {images.dtype} {images.shape} is no images",
                "uint8 (H, W), (H, W, c) or (b, H, W, c), or float32 (b, channels, H, W)",
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
        items: Paths, Pillow images and pixels, grey (H, W) or (H, W, 1), RGB (H, W, 3) or as many
            channels as the network takes, uint8 or uint16, which are all prepared as photos; or
            float32 (channels, H, W), taken as they are.
        size: (H, W), in pixels.
        preprocessing: Of photos.
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
    from swin_deploy.data.bands import as_pixels
    from swin_deploy.data.images import load_photo, prepare_array, prepare_photo, require_pillow

    if isinstance(item, str | Path):
        return load_photo(Path(item), size, preprocessing)
    require_pillow()
    from PIL import Image

    if isinstance(item, np.ndarray):
        if item.dtype not in (np.uint8, np.uint16) or item.ndim not in (2, 3):
            raise InputError(
                f"pixels are (H, W) or (H, W, channels), uint8 or uint16, got {item.dtype} "
                f"{item.shape}"
            )
        if not item.size:
            raise InputError(f"an array of {item.shape} has no pixels")
        try:
            pixels = as_pixels(item, len(preprocessing.mean))
        except InputError as error:
            raise InputError(f"an array is no image: {error.problem}", error.hint) from error
        return prepare_array(pixels, size, preprocessing)
    if not isinstance(item, Image.Image):
        raise InputError(f"a {type(item).__name__} is no image", "a path, Pillow image or array")
    try:
        return prepare_photo(item, size, preprocessing)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"a Pillow image cannot be read: {error}") from error


BEST = 5  # classes of a photo that are told, where one is right


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the outputs say of each of b images: the best k classes, or k numbers.

    Attributes:
        task: What the outputs mean.
        classes: (b, k) int64, best first; of a regression 0, 1, ... in the order of the outputs.
        scores: (b, k) float32: probabilities, 0 to 1, where ``probabilities``; else logits, of a
            graph that gives only its best logits, or the numbers of a regression.
        labels: Names of the classes, likewise; their numbers where names are not known.
        names: Of the images: paths; None of images that came without.
        logits: (b, classes) float32, where the graph gives them.
        probabilities: What ``scores`` are.
    """

    task: Task
    classes: NDArray[np.int64]
    scores: FloatArray
    labels: tuple[tuple[str, ...], ...]
    names: tuple[str | None, ...]
    logits: FloatArray | None
    probabilities: bool

    def __len__(self) -> int:
        return len(self.classes)


def to_prediction(
    outputs: Mapping[str, FloatArray],
    interface: Interface,
    labels: Sequence[str],
    names: Sequence[str | None],
    k: int | None = None,
) -> Prediction:
    """Read the outputs of a graph.

    Args:
        outputs: By name, (b, ...) each: "logits", "probabilities", or "scores" and "classes".
        interface: Of the graph.
        labels: Names of the classes by index; empty where they are not known.
        names: Of the images.
        k: At most so many classes; None for ``BEST`` where one is right, and else for all. A
            regression has all of its numbers, whatever k is.
    """
    logits, task = outputs.get(LOGITS), interface.task
    if k is None:
        k = BEST if task == "single-label" else None
    if SCORES in outputs:
        classes, scores = outputs[CLASSES][:, :k].astype(np.int64), outputs[SCORES][:, :k]
        probabilities = interface.probabilities
        if task == "multi-label" and not probabilities:
            scores, probabilities = sigmoid(scores), True
    else:
        every, probabilities = outputs.get(PROBABILITIES), True
        if logits is not None:
            every, probabilities = _read(logits, task)
        every = present(every)  # one of the two is what a graph without scores gives
        if task == "regression":
            classes = np.tile(np.arange(every.shape[1]), (len(every), 1))
        else:
            classes = np.argsort(-every, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(every, classes, axis=1)
    return Prediction(
        task=task,
        classes=classes,
        scores=scores.astype(np.float32),
        labels=tuple(tuple(labels[c] if labels else str(c) for c in row) for row in classes),
        names=tuple(names),
        logits=logits,
        probabilities=probabilities,
    )


def _read(logits: FloatArray, task: Task) -> tuple[FloatArray, bool]:
    """What logits say, and whether that is probabilities."""
    if task == "multi-label":
        return sigmoid(logits), True
    if task == "regression" or logits.shape[1] == 1:  # a softmax of one output is 1, whatever it is
        return logits, False
    return softmax(logits), True
