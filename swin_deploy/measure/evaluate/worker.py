"""What a worker does with a shard, in this process, in another, or on another machine.

The best classes of a photo depend on the artifact, on the batch that it ran in and on the threads
of the runtime: the last bit of a logit does. All three are fixed by the shard and the settings,
never by the number of workers, so that any number of them gives the same.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError, InputError, VerificationError
from swin_deploy.core.files import sha256
from swin_deploy.data.images import load_photo
from swin_deploy.data.samples import SampledImage, in_batches
from swin_deploy.engine.runners.base import run_all
from swin_deploy.measure.evaluate.candidates import Candidate, View
from swin_deploy.measure.evaluate.shards import BEST, Shard, ShardResult
from swin_deploy.measure.workers.base import require_same
from swin_deploy.network.interface import CLASSES, LOGITS, PROBABILITIES, SCORES, Task
from swin_deploy.network.judge import FloatArray, sigmoid


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that a worker has to know. Pickles.

    Attributes:
        artifacts: To run.
        folder: Absolute; what the names of photos are relative to.
        batch: Images at a time.
        classes: That every artifact has to know.
        task: What their outputs mean.
        decoders: Photos to decode at a time; has no effect on what comes out.
    """

    artifacts: tuple[Candidate, ...]
    folder: Path
    batch: int
    classes: int
    decoders: int
    task: Task = "single-label"


class ShardWorker:
    """Holds the artifacts open, and runs shards one after the other: a ``workers.base.Worker``."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._views = tuple(dict.fromkeys(artifact.view for artifact in work.artifacts))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the artifacts."""
        with self._stack:
            for artifact in self._work.artifacts:
                for file in artifact.files:
                    require_same(file.path, file.sha256, file.also)
                self._stack.enter_context(artifact.runner)
            self._pool = self._stack.enter_context(ThreadPoolExecutor(self._work.decoders))
            self._stack = self._stack.pop_all()  # all are open: they stay so until __exit__
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def do(self, shard: Shard) -> ShardResult:
        """Decode every photo once, and ask every artifact for its best classes.

        Raises:
            InputError: A photo is not there any more, or another one than when it was listed.
            ConfigError: An artifact knows another number of classes.
            SwinDeployError: A runtime fails.
        """
        task, found = self._work.task, [list[Any]() for _ in self._work.artifacts]
        positions, left_out = list[int](), list[tuple[int, str]]()
        for places, views in self._batches(shard, left_out):
            positions.extend(places)
            for artifact, rows in zip(self._work.artifacts, found, strict=True):
                images = artifact.taken.round(views[artifact.view])
                outputs = run_all(artifact.runner, images)
                _require_classes(artifact, outputs, self._work.classes)
                if task == "single-label":
                    rows.extend(best_classes(outputs).tolist())
                else:
                    rows.extend(all_scores(outputs, task, artifact).tolist())
        if task == "single-label":
            return ShardResult(shard.index, positions, found, left_out)
        return ShardResult(shard.index, positions, [], left_out, found)

    def _batches(
        self, shard: Shard, left_out: list[tuple[int, str]]
    ) -> Iterator[tuple[list[int], dict[View, FloatArray]]]:
        """Positions and, for every view, images (b, channels, H, W) float32."""
        for held in in_batches(self._read(shard, left_out), self._work.batch):
            positions, images = zip(*held, strict=True)
            views = zip(self._views, zip(*images, strict=True), strict=True)
            yield list(positions), {view: np.stack(rows) for view, rows in views}

    def _read(
        self, shard: Shard, left_out: list[tuple[int, str]]
    ) -> Iterator[tuple[int, list[FloatArray]]]:
        for position, found in enumerate(self._pool.map(self._load, shard.images), shard.first):
            if isinstance(found, str):
                left_out.append((position, found))
            else:
                yield position, found

    def _load(self, image: SampledImage) -> list[FloatArray] | str:
        """A photo as every view has it, or why it cannot be read."""
        path = self._work.folder / image.name
        if not path.is_file():
            raise InputError(
                f"{path} is not there on {socket.gethostname()}",
                "photos at the same path on every machine",
            )
        if sha256(path) != image.sha256:
            raise InputError(f"{path} has changed since it was listed", "the same command again")
        try:
            return [load_photo(path, *view) for view in self._views]
        except InputError as error:
            return error.problem


def best_classes(outputs: dict[str, FloatArray]) -> NDArray[np.int64]:
    """The best classes of every image, the best first: (b, k), k at most ``BEST``.

    Of equal values the lower class comes first. Where an output is not finite, all are -1: a class
    that is never right.

    Args:
        outputs: "scores" and "classes", or "logits" or "probabilities" (b, classes) alone.
    """
    if CLASSES in outputs:
        values, ranked = outputs[SCORES], outputs[CLASSES][:, :BEST].astype(np.int64)
    else:
        (values,) = outputs.values()
        ranked = np.argsort(-values, axis=1, kind="stable")[:, :BEST]
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), ranked, -1)


def all_scores(outputs: dict[str, FloatArray], task: Task, artifact: Candidate) -> FloatArray:
    """The probabilities of all labels, or all numbers: (b, outputs) float32.

    Args:
        outputs: "logits" or "probabilities" (b, outputs).
        task: What they mean.
        artifact: Whose they are, for messages.

    Raises:
        VerificationError: Some are not finite, so that there is no figure of them.
    """
    values = outputs[PROBABILITIES] if PROBABILITIES in outputs else outputs[LOGITS]
    if not np.isfinite(values).all():
        raise VerificationError(f"{artifact.name} gives outputs that are not finite")
    if task == "multi-label" and PROBABILITIES not in outputs:
        values = sigmoid(values)
    return values.astype(np.float32)


def _require_classes(artifact: Candidate, outputs: dict[str, FloatArray], classes: int) -> None:
    if CLASSES in outputs:
        return
    for values in outputs.values():
        if values.shape[1:] != (classes,):
            raise ConfigError(
                f"{artifact.path} has {values.shape[-1]} classes, not {classes}",
                "the --variant or --config of that network",
            )
