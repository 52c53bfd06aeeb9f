"""Photos with the labels that hold of them, or with numbers: a CSV or a JSON list."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError, some
from swin_deploy.core.files import digest
from swin_deploy.core.own_files import read_plain
from swin_deploy.core.records import decode, parse_json, reading
from swin_deploy.data.classes import match_classes
from swin_deploy.data.samples import ImageSample, folder_of, require_count, sample_files
from swin_deploy.data.sources import require_files
from swin_deploy.network.interface import Preprocessing, Size, Task

SUFFIXES = (".csv", ".json")
_PURPOSE = "measurement"
_HINTS: dict[Task, str] = {
    "multi-label": "a .csv with path,label1|label2 a line, or a .json with "
    '[{"path": ..., "labels": [...]}, ...]',
    "regression": "a .csv with path,value,... a line, or a .json with "
    '[{"path": ..., "values": [...]}, ...]',
}


@dataclass(frozen=True, slots=True)
class TargetSet:
    """A sample of photos with what a network should say of them.

    Attributes:
        sample: The photos.
        targets: Of each of them: 1 for every label that holds and else 0, or the right numbers.
        notes: What is worth saying of it.
    """

    sample: ImageSample
    targets: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...]

    def identity(self, size: Size, preprocessing: Preprocessing) -> dict[str, Any]:
        """All that images and targets depend on, JSON-able."""
        return self.sample.identity(size, preprocessing) | {"labels": digest(self.targets)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An object of a JSON list; one of the last two."""

    path: str
    labels: tuple[str | int, ...] | None = None
    values: tuple[float, ...] | None = None


def find_targets(
    source: Path,
    task: Task,
    outputs: int,
    names: Sequence[str] = (),
    count: int | None = None,
    seed: int = 0,
    labels: Path | None = None,
) -> TargetSet:
    """Find the photos of a list, and what holds of each.

    Args:
        source: The list, whose paths are relative to it; or the folder that those of ``labels``
            are relative to. In a CSV a line is a path and the labels that hold, apart by ``|``; or
            a path and as many numbers as there are outputs. A first line that begins with ``path``
            is its header.
        task: "multi-label" or "regression".
        outputs: How many the network has.
        names: Of the labels, by index, where they are known; else labels are numbers.
        count: At most so many photos; None for all.
        seed: Of the sample.
        labels: The list, where ``source`` is a folder.
    """
    require_count(_PURPOSE, count, seed)
    listed = require_targets(source, task, labels)
    rows = _read(listed, task)
    require_files(listed, [(n, name) for n, name, _ in rows], folder_of(source))
    counts = Counter(name for _, name, _ in rows)
    if twice := [name for name, times in counts.items() if times > 1]:
        raise InputError(f"{listed} lists photos more than once: {some(twice)}", "each once")
    if task == "multi-label":
        targets = _labels(listed, rows, outputs, names)
    else:
        targets = _numbers(listed, rows, outputs)
    sample = sample_files(source, list(targets), _PURPOSE, count, seed)
    chosen = tuple(targets[image.name] for image in sample.images)
    notes = list(sample.notes)
    if task == "multi-label":
        held = sum(any(column) for column in zip(*chosen, strict=True))
        if held < outputs:
            notes.append(f"{outputs - held} of the {outputs} labels hold of no photo")
    return TargetSet(replace(sample, notes=()), chosen, tuple(notes))


def require_targets(source: Path, task: Task, labels: Path | None = None) -> Path:
    """The list, if there is one of a kind that can be read; nothing of it is read."""
    hint = _HINTS[task]
    if not source.exists():
        raise InputError(f"{source} does not exist", hint)
    if labels is not None and not source.is_dir():
        raise ConfigError(f"{source} is no folder, and {labels} lists photos in one", "the folder")
    listed = labels or source
    if listed.is_dir() or listed.suffix.lower() not in SUFFIXES:
        raise InputError(f"{listed} is no list of photos for a {task} network", hint)
    return listed


Rows = list[tuple[int, str, tuple[Any, ...]]]  # number of the line, path, labels or numbers


def _read(path: Path, task: Task) -> Rows:
    content = read_plain(path)
    if path.suffix.lower() == ".json":
        found = decode(tuple[_Row, ...], parse_json(content, path), path, _HINTS[task])
        key = "labels" if task == "multi-label" else "values"
        rows: Rows = []
        for number, row in enumerate(found, 1):
            if (held := getattr(row, key)) is None:
                raise InputError(f"{path}: entry {number} has no {key}", _HINTS[task])
            rows.append((number, row.path, held))
    else:
        with reading(path, "a CSV file in UTF-8", _HINTS[task]):
            lines = list(csv.reader(content.decode("utf-8-sig").splitlines(), strict=True))
        rows = [(n, row[0].strip(), tuple(row[1:])) for n, row in enumerate(lines, 1) if row]
        if rows and rows[0][1].lower() == "path":
            rows = rows[1:]
        if task == "multi-label":
            rows = [(n, name, _split(path, n, rest)) for n, name, rest in rows]
    if not rows:
        raise InputError(f"{path} lists no photos", _HINTS[task])
    return rows


def _split(path: Path, number: int, cells: tuple[str, ...]) -> tuple[str, ...]:
    """The labels in the one cell behind a path; none where it is empty."""
    if len(cells) != 1:
        raise InputError(
            f"{path}, line {number}: {len(cells)} cells after the path, not one with its labels",
            _HINTS["multi-label"],
        )
    return tuple(label.strip() for label in cells[0].split("|") if label.strip())


def _labels(
    path: Path, rows: Rows, outputs: int, names: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    texts = dict.fromkeys(str(label) for _, _, held in rows for label in held)
    if not texts:
        raise InputError(f"{path} has photos, and no label holds of any", _HINTS["multi-label"])
    known = match_classes(list(texts), outputs, names, str(path))
    found = {}
    for _, name, held in rows:
        indices = {known[str(label)] for label in held}
        found[name] = tuple(float(index in indices) for index in range(outputs))
    return found


def _numbers(path: Path, rows: Rows, outputs: int) -> dict[str, tuple[float, ...]]:
    found = {}
    for number, name, cells in rows:
        try:
            values = tuple(float(cell) for cell in cells)
        except ValueError:
            values = (math.nan,)
        if len(values) != outputs or not all(map(math.isfinite, values)):
            raise InputError(
                f"{path}, line {number}: {', '.join(map(str, cells))!r:.80} after the path, and "
                f"the network gives {outputs} numbers",
                _HINTS["regression"],
            )
        found[name] = values
    return found
