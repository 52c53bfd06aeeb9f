"""Labelled photos to learn from: a folder with a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.artifacts.files import digest, sha256
from swin_deploy.data.images import load_photo
from swin_deploy.data.inputs import list_photos
from swin_deploy.errors import InputError
from swin_deploy.metrics import FloatArray
from swin_deploy.variants import Variant

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Photos and their classes.

    Attributes:
        paths: Of the files, sorted.
        labels: The class of each.
        hashes: SHA-256 of the content of each.
        sha256: Digest over names, contents and classes.
        variant: The network, which has their size and preprocessing.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    hashes: tuple[str, ...]
    sha256: str
    variant: Variant

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> dict[str, Any]:
        """All that the tensors of ``read`` depend on besides the network, JSON-able."""
        return {
            "photos": self.sha256,
            "count": len(self),
            "preprocessing": asdict(self.variant.preprocessing),
        }

    def read(self, order: Sequence[int], batch: int) -> Iterator[tuple[FloatArray, Labels]]:
        """The photos at ``order``: (b, channels, H, W) float32 and (b,), the last maybe fewer.

        Some are decoded at a time, at most two batches before they are asked for.

        Raises:
            InputError: One cannot be read. Training does not leave photos out: what it gives would
                depend on which.
        """
        size, steps = self.variant.config.image_size, self.variant.preprocessing
        rest = iter(order)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            waiting: list[tuple[list[int], list[Future[FloatArray]]]] = []
            try:
                while True:
                    while len(waiting) < 2 and (rows := list(islice(rest, batch))):
                        images = [pool.submit(load_photo, self.paths[r], size, steps) for r in rows]
                        waiting.append((rows, images))
                    if not waiting:
                        return
                    rows, images = waiting.pop(0)
                    pixels = np.stack([image.result() for image in images])
                    yield pixels, np.array([self.labels[row] for row in rows], dtype=np.int64)
            finally:
                pool.shutdown(cancel_futures=True)


def find_labelled_photos(
    folder: Path, variant: Variant, names: Sequence[str] = ()
) -> LabelledPhotos:
    """The photos of a folder of class folders, called by the number or the name of the class.

    Args:
        folder: Photos may lie deeper in a class folder.
        variant: The network that has the classes.
        names: Of the classes, by index, where they are known.

    Raises:
        InputError: It is missing, or photos lie outside of the folders of the classes.
    """
    classes = variant.config.num_classes
    paths = tuple(list_photos(folder))
    folders = [path.relative_to(folder).parts[0] for path in paths]
    known = {name: index for index, name in enumerate(names)}
    known |= {str(index): index for index in range(classes)}
    if wrong := sorted({name for name in folders if name not in known}):
        raise InputError(
            f"{len(wrong)} entries of {folder} are no class folders: {', '.join(wrong[:5])}",
            f"a folder for each class, called 0 to {classes - 1}",
        )
    labels = tuple(known[name] for name in folders)
    hashes = tuple(map(sha256, paths))
    files = [path.relative_to(folder).as_posix() for path in paths]
    return LabelledPhotos(paths, labels, hashes, digest([files, hashes, labels]), variant)
