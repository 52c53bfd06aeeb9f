"""The unit of work, some photos in order, and the journal of those that are done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from swin_deploy.core.errors import InputError
from swin_deploy.core.files import digest
from swin_deploy.core.own_files import lock_own, this_process
from swin_deploy.core.records import decode, parse_json
from swin_deploy.core.reports import replace_report, require_report
from swin_deploy.data.samples import ImageSample, SampledImage
from swin_deploy.measure.evaluate.report import KIND
from swin_deploy.measure.journal import journal_path, misfit_of
from swin_deploy.network.interface import Task

BEST = 5  # classes that are kept of a photo, where there are as many
SHARD_IMAGES = 64  # at least; a shard that is lost or interrupted is some seconds of work


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive photos of a sample.

    Attributes:
        index: Of the shard.
        first: Position of its first photo in the sample.
        images: The photos.
    """

    index: int
    first: int
    images: tuple[SampledImage, ...]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What the artifacts name on the photos of a shard.

    Attributes:
        index: Of the shard.
        positions: In the sample, of the photos that could be read.
        classes: Per artifact and photo, the best classes, the best first; -1 where the outputs are
            not finite.
        left_out: Positions of the others, and why.
        scores: Per artifact and photo, all probabilities or numbers, in place of ``classes``, of
            networks that are not single-label.
    """

    index: int
    positions: list[int]
    classes: list[list[list[int]]]
    left_out: list[tuple[int, str]]
    scores: list[list[list[float]]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def shard_size(batch: int) -> int:
    """Photos in a shard: whole batches, so that cutting elsewhere would not change what is one."""
    return -(-SHARD_IMAGES // batch) * batch


def cut_shards(sample: ImageSample, batch: int) -> list[Shard]:
    """The shards of a sample; they depend on it and on the batch, and on nothing else."""
    size = shard_size(batch)
    return [
        Shard(index, first, sample.images[first : first + size])
        for index, first in enumerate(range(0, len(sample), size))
    ]


def misfit(
    result: ShardResult,
    shards: Sequence[Shard],
    artifacts: int,
    classes: int,
    task: Task = "single-label",
) -> str:
    """Why a result is of none of these shards; "" if it is.

    Args:
        result: As a file has it that anybody may have written.
        shards: All of an evaluation.
        artifacts: How many there are.
        classes: That each of them knows.
        task: What their outputs mean.
    """
    if not 0 <= result.index < len(shards):
        return f"shard {result.index} of {len(shards)}"
    shard = shards[result.index]
    own = range(shard.first, shard.first + len(shard.images))
    left_out = [position for position, _ in result.left_out]
    if sorted([*result.positions, *left_out]) != list(own) or sorted(result.positions) != list(
        result.positions
    ):
        return f"shard {result.index} has the photos {own.start} to {own.stop - 1}, not those"
    if task != "single-label":
        expected = [[classes] * len(result.positions)] * artifacts
        if [[len(row) for row in rows] for rows in result.scores] != expected:
            return f"shard {result.index} needs {classes} scores of {artifacts} artifacts for each"
        return ""
    if [len(rows) for rows in result.classes] != [len(result.positions)] * artifacts:
        return f"shard {result.index} needs guesses of {artifacts} artifacts for every photo"
    for rows in result.classes:
        if len({len(row) for row in rows}) > 1 or not all(0 < len(row) <= BEST for row in rows):
            return f"shard {result.index} needs as many guesses for each photo, 1 to {BEST}"
        if not all(-1 <= guess < classes for row in rows for guess in row):
            return f"shard {result.index} guesses a class that is none of {classes}"
    return ""


_HOLDER = "holder"  # key of a line that says who went on: ``lock_own`` names them


class ShardJournal:
    """Results of shards, a JSON line each, beside the report that they will make.

    The first line is what all of them depend on; lines of another evaluation do not count, nor
    does a last line that was cut off. Every process that goes on says so in a line. Lines that are
    whole stay as they are. ``open_journal`` makes one.
    """

    def __init__(self, report: Path, stream: TextIO, done: dict[int, ShardResult]) -> None:
        self.report, self._stream, self.done = report, stream, done

    def add(self, result: ShardResult) -> None:
        """Keep a result; it is on the disk when this returns."""
        self.done[result.index] = result
        _append(self._stream, result.as_dict())

    def finish(self, report: dict[str, Any]) -> str:
        """Write the report, and remove the lines; returns what ``replace_report`` says."""
        said = replace_report(self.report, report, "notes")
        journal_path(self.report).unlink(missing_ok=True)
        return said


@contextmanager
def open_journal(
    report: Path,
    identity: dict[str, Any],
    note: Callable[[str], None],
    misfit: Callable[[ShardResult], str],
    kind: str = KIND,
) -> Iterator[ShardJournal]:
    """The journal of a report, with what is done already. One process at a time has it.

    Args:
        report: The file that will hold the report; its folder exists.
        identity: All that the shards depend on, as JSON gives it back: lists, no tuples.
        note: Is told what is used again, and why other lines are not.
        misfit: Why a result cannot be one of this evaluation; "" if it can.
        kind: Of the report.
    """
    require_report(report, kind)
    path = journal_path(report)
    hint = "wait for it, or another --out"
    with lock_own(path, str(report), hint, name_holder=False) as stream:
        content = stream.buffer.read()
        content = content[: content.rfind(b"\n") + 1]  # what was cut off goes
        header, *rows = content.splitlines() or [b""]
        if content and (problem := _problem_of(header, path, identity)):
            note(f"{path} {problem}: starting again")
            content, rows = b"", []
        stream.truncate(len(content))
        if not content:
            _append(stream, {"kind": kind, "identity": identity, "digest": digest(identity)})
        _append(stream, {_HOLDER: this_process()})
        done = _read(rows, path, note, misfit)
        if done:
            note(f"shards of an earlier run that are used again: {len(done)}")
        yield ShardJournal(report, stream, done)


def _append(stream: TextIO, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value, separators=(",", ":")) + "\n")
    stream.flush()
    os.fsync(stream.fileno())


def _problem_of(header: bytes, path: Path, identity: dict[str, Any]) -> str:
    """Why the lines below it are not of this evaluation; "" if they are."""
    try:
        said = parse_json(header, path, finite=False)
    except InputError:
        return "cannot be used"
    found = said.get("identity") if isinstance(said, dict) else None
    whole = found is not None and said.get("digest") == digest(found)
    return misfit_of(found if whole else None, identity)


def _read(
    rows: Sequence[bytes],
    path: Path,
    note: Callable[[str], None],
    misfit: Callable[[ShardResult], str],
) -> dict[int, ShardResult]:
    """Index of a shard -> its result, of the lines that fit."""
    done, problems = {}, []
    for number, row in enumerate(rows, 2):
        try:
            said = parse_json(row, f"{path}, line {number}")
            if isinstance(said, dict) and said.keys() == {_HOLDER}:
                continue
            result = decode(ShardResult, said, f"{path}, line {number}")
        except InputError as error:
            problems.append(error.problem)
            continue
        if problem := misfit(result):
            problems.append(f"{path}, line {number}: {problem}")
        else:
            done[result.index] = result
    if problems:
        note(f"{len(problems)} lines of shards are done again: {problems[0]}")
    return done
