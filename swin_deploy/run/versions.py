"""Publication in one step: the manifest is the commit, and both versions lie whole around it.

What comes to a new version is linked into ``.versions/next`` and what it replaces into
``.versions/previous``, all on the disk, before the manifest is renamed. That rename is the step:
until it the old run is there, after it the new one. Then the plain names follow. A reader takes a
file from wherever its bytes have the hash that its manifest lists, so it neither sees that the
names follow one by one, nor that a process or the power died in between; whoever writes next
lets the names follow first. Names are plain files, so a copy of a run needs no ``.versions``.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import Recorded, is_intact, sha256, sync, write_json
from swin_deploy.core.own_files import (
    NO_LINKS,
    has_other_names,
    own_folder,
    remove_own_folder,
    require_own_folder,
)
from swin_deploy.run.details import MANIFEST, VERSIONS

NEXT, PREVIOUS = f"{VERSIONS}/next", f"{VERSIONS}/previous"
# How long a reader who holds an older manifest finds its files, at the least: all of them until a
# second publication comes, and however many come, those that were replaced less than that ago.
KEPT_S = 600.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_listed(outputs: Mapping[str, str], where: Path, hint: str) -> None:
    """Check what a record lists before any of it becomes a path: hashes do as well as names.

    Args:
        outputs: Path -> sha256.
        where: The record.
        hint: What to try.

    Raises:
        InputError: A hash is none.
        UnsafeError: A name leads out of the folder of the record, or to a file of the tool's own.
    """
    for name, expected in outputs.items():
        parts = name.split("/")
        if name == where.name or "\0" in name or any(p == "" or p.startswith(".") for p in parts):
            raise UnsafeError(f"{where} lists {name!r}, which is no name of a file in a run", hint)
        if not _SHA256.fullmatch(expected):
            raise InputError(f"{where}: the hash of {name} is {expected[:80]!r}, no sha256", hint)


def recorded(root: Path, name: str, expected: str) -> Recorded:
    """A file of a run, wherever its bytes are while a publication is under way."""
    return Recorded(
        path=root / name,
        sha256=expected,
        record=str(root / MANIFEST),
        also=(root / NEXT / name, root / PREVIOUS / _kept_name(name, expected)),
    )


def publish(
    root: Path,
    staging: Path,
    new: Mapping[str, str],
    old: Mapping[str, str],
    record: Path,
    content: dict[str, Any],
) -> None:
    """Make ``new`` the files in ``root``, under the lock of its writers.

    Args:
        root: The folder.
        staging: Has the files that were made anew; they are still there afterwards.
        new: Path -> sha256 of all.
        old: Of those that the record there lists.
        record: The file that lists them, replaced in between: the commit.
        content: That it gets.
    """
    staged = [
        name
        for name, expected in new.items()
        if (staging / name).is_file()  # of a run that was killed after its commit all are there
        and not (old.get(name) == expected and is_intact(root / name, expected))
    ]
    for name in staged:
        own_folder(root, str(Path(name).parent))
        if (root / name).is_dir() and not (root / name).is_symlink():
            raise FileAccessError(f"{root / name} is a folder", "another --out")
    if staged:
        own_folder(root, VERSIONS)
        _forget_old(root / PREVIOUS)
        _keep_waiting(root)
        _link_all(root / NEXT, {name: staging / name for name in staged})
        replaced = [name for name in staged if name in old and (root / name).is_file()]
        if replaced:
            kept = {_kept_name(name, old[name]): root / name for name in replaced}
            _link_all(root / PREVIOUS, kept)
        sync(root / VERSIONS)
        for folder in {root, *((root / name).parent for name in staged)}:
            sync(folder)
    write_json(record, content)  # the commit
    settle(root, new)


def recover(root: Path, staging: Path, outputs: Mapping[str, str] | None) -> None:
    """What a writer does before all else: finish a publication whose process was killed.

    Args:
        root: The folder, under the lock of its writers.
        staging: Files in it that were published are second names by now, and whoever wrote there
            would write into the published ones: they are cleared.
        outputs: Path -> sha256 of what its record lists, nothing if there is no record. None if
            there is one that cannot be read: what waits may be the only copy of what that lists.
    """
    if outputs is not None:
        settle(root, outputs)
    if require_own_folder(staging):
        for path in list(staging.rglob("*")):
            if has_other_names(path):
                path.unlink()


def settle(root: Path, outputs: Mapping[str, str]) -> None:
    """Let the plain names follow a commit; what belongs to none is cleared away.

    Args:
        root: The run folder.
        outputs: Path -> sha256 of what its record lists.
    """
    if not (require_own_folder(root / VERSIONS) and require_own_folder(root / NEXT)):
        return
    folders = set()
    for name, expected in outputs.items():
        waiting = root / NEXT / name
        if is_intact(waiting, expected):
            own_folder(root, str(Path(name).parent))
            waiting.replace(root / name)
            folders.add((root / name).parent)
    for folder in folders:
        sync(folder)
    remove_own_folder(root / NEXT)
    if not any((root / VERSIONS).iterdir()):
        (root / VERSIONS).rmdir()


def _kept_name(name: str, sha256: str) -> str:
    """What a replaced file is called: those of several versions lie beside each other."""
    return f"{sha256[:16]}-{Path(name).name}"


def _keep_waiting(root: Path) -> None:
    """Keep among what is replaced what still waits there of a record that could not be read."""
    waiting = root / NEXT
    if require_own_folder(waiting):
        files = [path for path in waiting.rglob("*") if path.is_file() and not path.is_symlink()]
        kept = {_kept_name(path.name, sha256(path)): path for path in files}
        _link_all(root / PREVIOUS, kept)
        remove_own_folder(waiting)


def _forget_old(previous: Path) -> None:
    """Remove what an earlier publication replaced, unless a reader may still be at it."""
    if require_own_folder(previous):
        for path in previous.iterdir():  # the time of change is that of the link
            if time.time() - path.lstat().st_ctime > KEPT_S:
                path.unlink()


def _link_all(final: Path, files: Mapping[str, Path]) -> None:
    """Give files further names below ``final``, and wait until these are on the disk."""
    final.mkdir(exist_ok=True)
    folders = {final}
    for name, source in files.items():
        own_folder(final, str(Path(name).parent))
        _link(source, final / name)
        folders.add((final / name).parent)
    for folder in folders:
        sync(folder)


def _link(source: Path, final: Path) -> None:
    """A second name of a file; a copy where the file system has none."""
    final.unlink(missing_ok=True)  # of the same content, by its name
    try:
        os.link(source, final, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source, final, follow_symlinks=False)
        sync(final)
