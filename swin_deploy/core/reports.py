"""Reports of commands: none takes the place of something else, and what one replaces is kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import FileAccessError, InputError
from swin_deploy.core.files import atomic_path, is_intact, read_json, sha256, write_json
from swin_deploy.core.own_files import lock_own
from swin_deploy.core.records import decode

KEPT = 5  # earlier reports of one name
_KEY = "kept"  # in a report: the names of those that are, and their hashes
_WAIT_S = 60.0  # for who replaces the same one, which takes a moment


def noting(notes: list[str], hear: Callable[[str], None]) -> Callable[[str], None]:
    """What to tell whatever ``hear`` hears now and the report says later, in ``notes``."""

    def note(text: str) -> None:
        notes.append(text)
        hear(text)

    return note


def require_report(
    path: Path, kind: str, keys: Iterable[str] = (), hint: str = "another --out"
) -> None:
    """Check that nothing but a report of this kind would be replaced.

    Args:
        path: Where it will be written.
        kind: Is under this name in every report of the kind.
        keys: That tell those of earlier versions, which do not say their kind; none for no such.
        hint: What to try.
    """
    if not os.path.lexists(path):
        return
    found = (read_json(path) if path.is_file() else None) or {}
    told = "kind" not in found and (wanted := set(keys)) and wanted <= found.keys()
    if not told and found.get("kind") != kind:
        raise FileAccessError(f"{path} exists, and is no report of this command", hint)


def replace_report(path: Path, report: dict[str, Any], notes: str) -> str:
    """Write a report, and keep what stands there beside it, numbered, unless it is of the same.

    Those that are kept stand in the report, so that no file is ever removed that was not made here.

    Args:
        path: Of the report.
        report: Says all that it depends on as "identity", if it is the same each time that this is.
        notes: Key of the list in it that gets the names of those that are kept.

    Returns:
        What was added to the notes; "" for nothing.

    Raises:
        BusyError: Another process replaces it, and did for a minute.
        UnsafeError: The lock is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_own(path.with_name(f".{path.name}.lock"), str(path), "again", _WAIT_S):
        return _replace(path, report, notes)


def _replace(path: Path, report: dict[str, Any], notes: str) -> str:
    earlier = read_json(path) or {}
    kept, said, dropped = _kept_by(path, earlier), "", dict[str, str]()
    identity = report.get("identity")
    if path.exists() and (identity is None or earlier.get("identity") != identity):
        copy = _free_name(path, kept)
        with atomic_path(copy) as scratch:
            shutil.copyfile(path, scratch)
        kept[copy.name] = sha256(copy)
        dropped = {name: kept.pop(name) for name in list(kept)[:-KEPT]}
        said = f"earlier records of {path.name} are kept, the newest last: {', '.join(kept)}"
        report[notes] = [*report.get(notes, []), said]
    if kept:
        report[_KEY] = kept
    write_json(path, report)
    for name, expected in dropped.items():
        if is_intact(old := path.with_name(name), expected):
            old.unlink()
    return said


def _kept_by(path: Path, report: dict[str, Any]) -> dict[str, str]:
    """Name -> sha256 of the earlier reports that this one says it has beside it, oldest first."""
    try:
        kept = decode(dict[str, str], report.get(_KEY, {}), path)
    except InputError:
        return {}
    return {name: found for name, found in kept.items() if _number(path, name)}


def _number(path: Path, name: str) -> int:
    """That a kept report has in its name; 0 for any other name."""
    numbered = rf"{re.escape(path.stem)}\.([1-9][0-9]{{0,8}}){re.escape(path.suffix)}"
    found = re.fullmatch(numbered, name)
    return int(found[1]) if found else 0


def _free_name(path: Path, kept: Iterable[str]) -> Path:
    """The next number that is nobody's."""
    number = max((_number(path, name) for name in kept), default=0) + 1
    while os.path.lexists(free := path.with_stem(f"{path.stem}.{number}")):
        number += 1
    return free
