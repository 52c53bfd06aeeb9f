"""Records of runs and bundles that say something else, as whoever writes them would write it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swin_deploy.core.files import (
    DIGEST,
    with_digest,
)
from swin_deploy.pipeline.qat.folder import FILES as TUNED
from swin_deploy.pipeline.qat.folder import QatFolder
from swin_deploy.run.details import LOCK


def edit_record(path: Path, edit: Callable[[dict[str, Any]], Any], *, sealed: bool = True) -> None:
    """Change what a record says.

    Args:
        path: manifest.json, bundle.json or engine.json.
        edit: Changes the object in place.
        sealed: Put it under its digest again, as only the tool does; otherwise it is as if a person
            had edited the file.
    """
    data = json.loads(path.read_text())
    edit(data)
    if sealed:
        data = with_digest({name: value for name, value in data.items() if name != DIGEST})
    path.write_text(json.dumps(data, indent=2) + "\n")


def edit_manifest(
    folder: Path, edit: Callable[[dict[str, Any]], Any], *, sealed: bool = True
) -> None:
    """``edit_record`` of the manifest of a run."""
    edit_record(folder / "manifest.json", edit, sealed=sealed)


def tree(folder: Path) -> dict[str, bytes | str]:
    """All that lies in a folder, links as what they say; not the lock, which nobody reads."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink()) and path.name != LOCK
    }


def tune(folder: QatFolder, text: str) -> None:
    for name in TUNED:
        folder.scratch(name).write_text(f"{text} {name}")


Edit = Callable[[dict[str, Any]], Any]


def put(value: Any, *keys: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return edit


def drop(*keys: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return edit
