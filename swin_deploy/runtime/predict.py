"""Photos from files, folders and lists -> their best classes, one photo after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.data.images import MAX_UNREADABLE, list_photos
from swin_deploy.network.interface import Task
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.images import Prediction

STDIN = "-"  # in place of a path: a list of paths, one a line, on standard input


@dataclass(frozen=True, slots=True)
class Guess:
    """One class of a photo: its number, its name, and the score as ``Prediction`` has it."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """The best classes of one photo, best first; or its numbers, in the order of the outputs."""

    photo: Path
    best: tuple[Guess, ...]
    probabilities: bool
    task: Task = "single-label"

    def holding(self, threshold: float) -> tuple[str, ...]:
        """The labels whose probability is at least ``threshold``."""
        return tuple(guess.label for guess in self.best if guess.score >= threshold)


def expand_sources(sources: Sequence[str], stdin: TextIO) -> list[Path]:
    """The photos that are meant, in order.

    Args:
        sources: Files; folders, whose photos are taken, sub-folders included; or "-".
        stdin: What "-" reads.
    """
    photos: list[Path] = []
    for source in sources:
        if source == STDIN:
            lines = (line.rstrip("\r\n") for line in stdin)
            photos += [Path(line) for line in lines if line.strip()]
        elif Path(source).is_dir():
            photos += list_photos(Path(source))
        else:
            photos.append(Path(source))
    if not photos:
        raise InputError("there are no photos", "files, folders, or - and a list of paths")
    if not any(map(os.path.lexists, photos)):
        more = f", nor do {len(photos) - 1} others" if len(photos) > 1 else ""
        raise InputError(f"{photos[0]} does not exist{more}", "files that exist")
    return photos


def predict_photos(
    engine: SwinEngine, photos: Sequence[Path], k: int | None, note: Callable[[str], None]
) -> Iterator[PhotoResult]:
    """Classify photos, as many at a time as the engine takes, in order.

    Args:
        engine: Open.
        photos: All of them.
        k: So many classes of each; as of ``SwinEngine``.
        note: Told of every photo that cannot be read, and why.
    """
    bad = 0
    for start in range(0, len(photos), engine.batch):
        paths, tensors = [], []
        for path in photos[start : start + engine.batch]:
            try:
                tensors.append(engine.prepare(path))
            except InputError as error:
                if len(photos) == 1:
                    raise
                bad += 1
                note(f"left out: {error.problem}")
                continue
            paths.append(path)
        if paths:
            prediction = engine(np.concatenate(tensors), k)
            for row, path in enumerate(paths):
                guesses = _guesses(prediction, row)
                yield PhotoResult(path, guesses, prediction.probabilities, prediction.task)
    if bad == len(photos) or bad > MAX_UNREADABLE * len(photos):  # why was told of each
        raise InputError(f"{bad} of {len(photos)} photos cannot be read", "leave them out")


def _guesses(prediction: Prediction, row: int) -> tuple[Guess, ...]:
    columns = zip(
        prediction.classes[row].tolist(),
        prediction.labels[row],
        prediction.scores[row].tolist(),
        strict=True,
    )
    return tuple(Guess(*one) for one in columns)
