"""Labelled photos to learn from, in any order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.data.images import load_photo
from swin_deploy.data.labelled import Classes, LabelledSet, find_labelled
from swin_deploy.data.sample import folder_of
from swin_deploy.metrics import FloatArray
from swin_deploy.variants import Variant


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Photos and their classes, as a network takes them.

    Attributes:
        found: What lies there.
        variant: The network, which has size and preprocessing.
    """

    found: LabelledSet
    variant: Variant

    def __len__(self) -> int:
        return len(self.found.labels)

    @property
    def hashes(self) -> set[str]:
        """SHA-256 of the photos."""
        return {image.sha256 for image in self.found.sample.images}

    def identity(self) -> dict[str, Any]:
        """All that the tensors of ``read`` depend on, JSON-able."""
        variant = self.variant
        return self.found.identity(variant.config.image_size, variant.preprocessing)

    def read(self, order: Sequence[int], batch: int) -> Iterator[tuple[FloatArray, Classes]]:
        """The photos at ``order``: (b, channels, H, W) float32 and (b,), the last maybe fewer.

        Several are decoded at a time, at most two batches before they are asked for.

        Raises:
            InputError: One cannot be read. Training does not leave photos out: what it gives would
                depend on which.
        """
        size, steps = self.variant.config.image_size, self.variant.preprocessing
        sample, labels, rest = self.found.sample, self.found.labels, iter(order)
        folder = folder_of(sample.source)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            waiting: list[tuple[list[int], list[Future[FloatArray]]]] = []
            try:
                while True:
                    while len(waiting) < 2 and (rows := list(islice(rest, batch))):
                        paths = [folder / sample.images[row].name for row in rows]
                        waiting.append(
                            (rows, [pool.submit(load_photo, path, size, steps) for path in paths])
                        )
                    if not waiting:
                        return
                    rows, images = waiting.pop(0)
                    pixels = np.stack([image.result() for image in images])
                    yield pixels, np.array([labels[row] for row in rows], dtype=np.int64)
            finally:
                pool.shutdown(cancel_futures=True)


def find_labelled_photos(
    source: Path, variant: Variant, names: Sequence[str] = ()
) -> LabelledPhotos:
    """The labelled photos of a source; arguments and errors as of ``find_labelled``."""
    return LabelledPhotos(find_labelled(source, variant.config.num_classes, names), variant)
