"""Records of runs and bundles that say something else, as whoever writes them would write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swin_deploy.core.files import DIGEST, with_digest


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
