"""The shards that are done, on the disk, so that an evaluation that is killed goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from swin_deploy.errors import InputError
from swin_deploy.evaluate.shards import ShardResult
from swin_deploy.files import digest
from swin_deploy.kept_reports import replace_report, require_report
from swin_deploy.own_files import lock_own, this_process
from swin_deploy.records import parse_json

KIND = "evaluate"


class ShardJournal:
    """Results of shards, a JSON line each, beside the report that they will make.

    The first line is what all of them depend on; lines of another evaluation do not count, nor
    does a last line that was cut off. ``open_journal`` makes one.
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


def journal_path(report: Path) -> Path:
    """Where the shards of an unfinished report are."""
    return report.with_name(f".{report.name}.partial")


@contextmanager
def open_journal(
    report: Path, identity: dict[str, Any], note: Callable[[str], None]
) -> Iterator[ShardJournal]:
    """The journal of a report, with what is done already. One process at a time has it.

    Args:
        report: The file that will hold the report; its folder exists.
        identity: All that the shards depend on, as JSON gives it back: lists, no tuples.
        note: Is told what is used again, and why other lines are not.

    Raises:
        FileAccessError: ``report`` is something else.
        BusyError: Another process is making this report.
        UnsafeError: The journal is a link.
    """
    require_report(report, KIND)
    path = journal_path(report)
    hint = "wait for it, or another --out"
    with lock_own(path, str(report), hint, name_holder=False) as stream:
        done = _read(stream, path, identity, note)
        stream.truncate(0)  # what counts is written again, without a line that was cut off
        header = {"kind": KIND, "identity": identity, "digest": digest(identity)}
        _append(stream, header | {"holder": this_process()})
        for result in done.values():
            _append(stream, result.as_dict())
        if done:
            note(f"shards of an earlier run that are used again: {len(done)}")
        yield ShardJournal(report, stream, done)


def _append(stream: TextIO, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value, separators=(",", ":")) + "\n")
    stream.flush()
    os.fsync(stream.fileno())


def _read(
    stream: TextIO, path: Path, identity: dict[str, Any], note: Callable[[str], None]
) -> dict[int, ShardResult]:
    stream.seek(0)
    lines = stream.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        return {}
    try:
        header, *rows = (parse_json(line.encode(), path, finite=False) for line in whole)
        found = header["identity"]
        changed = [key for key in found | identity if found.get(key) != identity.get(key)]
        results = [ShardResult.from_dict(row) for row in rows]
    except (InputError, ValueError, KeyError, TypeError):
        note(f"{path} cannot be used: starting again")
        return {}
    if changed:
        note(f"{path} is of another {', '.join(sorted(changed))}: starting again")
        return {}
    return {result.index: result for result in results}
