"""Zip files whose bytes follow from their contents alone, and that replace nothing."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from swin_deploy.bundle.closure import runtime_closure
from swin_deploy.errors import FileAccessError
from swin_deploy.files import Recorded, naming, sync
from swin_deploy.own_files import NO_LINKS, unfinished_folder

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
_UNIX, _MODE = 3, 0o100644 << 16
_MAIN = "from swin_deploy.runtime.main import entry\n\nentry()\n"


def make_zipapp() -> bytes:
    """``swin.pyz``: the runtime and nothing else, for ``python3 swin.pyz``."""
    sources = {"__main__.py": _MAIN.encode()}
    for name, path in runtime_closure().modules.items():
        folder = name.replace(".", "/")
        inside = f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"
        sources[inside] = path.read_bytes()
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    _write(stream, sources)
    return stream.getvalue()


def write_archive(final: Path, contents: Mapping[str, bytes | Recorded]) -> None:
    """Write a zip file; it appears under its name when it is whole.

    Nothing is compressed: weights hardly get smaller, and what a compressor writes depends on its
    version. Names are in order, all dates and permissions are the same.

    Args:
        final: Must not exist.
        contents: Path in the archive -> bytes, or the recorded file that has them.

    Raises:
        FileAccessError: ``final`` exists.
    """
    require_new(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(final) as folder:
        scratch = folder / final.name
        with naming(final):
            with scratch.open("wb") as stream:
                _write(stream, contents)
            sync(scratch)
        try:
            _give_new_name(scratch, final)
        except FileExistsError as error:
            raise FileAccessError(f"{final} exists", "another --out") from error
    sync(final.parent)


def _give_new_name(scratch: Path, final: Path) -> None:
    """As a rename that replaces nothing that came meanwhile; FileExistsError where something did.

    Where files have no second names, as on exFAT, an empty file takes the name first.
    """
    try:
        os.link(scratch, final)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        final.touch(exist_ok=False)
        scratch.replace(final)


def require_new(final: Path) -> None:
    """Check that nothing has this name.

    Raises:
        FileAccessError: Something has.
    """
    if os.path.lexists(final):
        raise FileAccessError(f"{final} exists, and is not overwritten", "another --out")


def _write(
    stream: io.BufferedIOBase | io.BufferedWriter, contents: Mapping[str, bytes | Recorded]
) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            content = contents[name]
            archive.writestr(entry, content if isinstance(content, bytes) else content.read())
