"""An engine that was built from a bundle, as a function of images."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_deploy.core.errors import ConfigError, present, raise_all, wrong_counts
from swin_deploy.network.interface import EMBEDDING, LOGITS, STAGES
from swin_deploy.network.judge import FloatArray
from swin_deploy.runtime.images import Prediction, list_images, prepare_images, to_prediction

if TYPE_CHECKING:
    from typing import Self

    from swin_deploy.engine.runners.base import Runner
    from swin_deploy.network.interface import Outputs, Precision
    from swin_deploy.runtime.trust import UnpackedBundle


# What people call it, and how it is asked for.
_GIVEN: dict[Outputs, tuple[str, str]] = {
    LOGITS: ("classes", "engine(images)"),
    STAGES: ("maps", "SwinEngine.maps"),
    EMBEDDING: ("embeddings", "SwinEngine.embeddings"),
}


class SwinEngine:
    """Classifies images, or gives embeddings or maps of them. Made by ``load``; close it after use.

    Calls from several threads at once share its workers; one that finds none free waits.

    Attributes:
        shipped: The bundle.
        precision: Of the engine.
        path: The engine.
    """

    def __init__(
        self,
        shipped: UnpackedBundle,
        precision: Precision,
        path: Path,
        runner: Runner,
        workers: int = 1,
    ) -> None:
        self.shipped = shipped
        self.precision = precision
        self.path = path
        self._high = min(runner.batch.high, shipped.batch.high)
        self._workers = workers
        self._free: queue.SimpleQueue[Runner | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._free.put(runner)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        precision: str | None = None,
        *,
        verify_key: str | Path | None = None,
        threads: int | None = None,
        workers: int = 1,
    ) -> SwinEngine:
        """Open the engine of a bundle that was unpacked, and built by ``swin.pyz build``.

        Every file is compared with its recorded hash, and what the engine was built for with this
        machine, before anything is deserialised; what is deserialised are the bytes that were
        compared.

        Args:
            folder: Of the bundle.
            precision: Of the engine; None for the preferred one of those that were built.
            verify_key: As ``trust.open_bundle`` takes it.
            threads: For an inference on the CPU; None for one per usable core.
            workers: So many calls run at once; each takes memory for its own activations.

        Raises:
            InputError: There is no bundle, or nothing was built from it yet.
            EnvironmentMissingError: The engine is for another version, GPU or platform.
            UnsafeError: A file is not the one that was recorded, or not signed by that key.
        """
        from swin_deploy.engine.open import open_engine
        from swin_deploy.engine.targets import find_target
        from swin_deploy.runtime.record import require_engine
        from swin_deploy.runtime.trust import open_bundle

        raise_all(wrong_counts(threads=threads, workers=workers))
        shipped = open_bundle(Path(folder), None if verify_key is None else Path(verify_key))
        chosen, files = require_engine(shipped, precision)
        target, taken = find_target(shipped.target), shipped.image_input(chosen)
        path = files[0].path
        runner = open_engine(target, chosen, path, threads, taken, at_once=workers, recorded=files)
        return cls(shipped, chosen, path, runner.__enter__(), workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the calls that are running, and free the engine. A second call does nothing."""
        waited = [self._free.get() for _ in range(self._workers)]
        self._workers = 0
        for runner in waited[:1]:
            present(runner).__exit__(None, None, None)  # None is put there when there are none
        self._free.put(None)  # for those who wait, and for later calls

    @property
    def name(self) -> str:
        """Network, target and precision, for tables."""
        return f"{self.shipped.network} {self.shipped.target}-{self.precision}"

    @property
    def batch(self) -> int:
        """The most images that one call of the engine takes; larger batches are split."""
        return self._high

    def __call__(self, images: Any, k: int | None = None) -> Prediction:
        """Classify images, or give the numbers of a regression.

        Args:
            images: One or a sequence of: a path; a Pillow image; uint8 pixels of any size, grey
                (H, W) or (H, W, 1), RGB (H, W, 3), or with the channels that the network takes.
                Or uint8 (b, H, W, c). All of these are
                prepared as photos are, to the bit: grey becomes RGB, or RGB grey, where the network
                takes that. Or float32 (b, channels, H, W), normalised already, of the network's
                size.
            k: So many classes of each image, or all if there are fewer. None for 5 where one class
                is right, and for all labels where each holds or not.

        Raises:
            InputError: An image cannot be read, or is of a kind or shape that is none of these.
            ConfigError: The network gives maps or embeddings: see ``maps`` and ``embeddings``.
        """
        self._require(LOGITS)
        if k is not None and k < 1:
            raise ConfigError(f"k = {k}", "at least 1")
        items, names = list_images(images)
        return to_prediction(
            self.outputs(items), self.shipped.interface, self.shipped.label_names, names, k
        )

    def maps(self, images: Any) -> dict[str, FloatArray]:
        """The maps of a backbone, (b, c, h, w) float32 each, by name.

        Args:
            images: As ``__call__`` takes them.

        Raises:
            ConfigError: The network gives classes or embeddings.
        """
        self._require(STAGES)
        return self.outputs(list_images(images)[0])

    def embeddings(self, images: Any) -> FloatArray:
        """What a head would read, (b, c) float32, not normalised to any length.

        Args:
            images: As ``__call__`` takes them.

        Raises:
            ConfigError: The network gives classes or maps.
        """
        self._require(EMBEDDING)
        return self.outputs(list_images(images)[0])[EMBEDDING]

    def _require(self, outputs: Outputs) -> None:
        if (given := self.shipped.outputs) != outputs:
            (what, call), (other, _) = _GIVEN[given], _GIVEN[outputs]
            raise ConfigError(f"{self.name} gives {what} and no {other}", call)

    def prepare(self, images: Any) -> FloatArray:
        """What the network sees of images: (b, channels, H, W) float32, normalised."""
        return prepare_images(
            list_images(images)[0], self.shipped.image_size, self.shipped.preprocessing
        )

    def outputs(self, items: Sequence[Any]) -> dict[str, FloatArray]:
        """The outputs of the graph by name, (b, ...) each.

        Args:
            items: As ``list_images`` gives them.
        """
        from swin_deploy.engine.runners.base import run_all

        size, steps = self.shipped.image_size, self.shipped.preprocessing
        parts = []
        for start in range(0, len(items), self._high):
            part = prepare_images(items[start : start + self._high], size, steps)
            with self.borrow() as runner:
                parts.append(run_all(runner, part))
        if len(parts) == 1:  # a copy would cost a small network as much as all else around it
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @contextmanager
    def borrow(self) -> Iterator[Runner]:
        """The runner, for the block, while fewer than ``workers`` others use it.

        Raises:
            ConfigError: The engine was closed.
        """
        runner = self._free.get()
        if runner is None:
            self._free.put(None)
            raise ConfigError(f"{self.name} was closed", "SwinEngine.load")
        try:
            yield runner
        finally:
            self._free.put(runner)
