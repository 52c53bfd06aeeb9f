"""The folder of a fine-tuning: all files of one, or none of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_deploy.errors import FileAccessError, InputError, UnsafeError
from swin_deploy.files import (
    read_json,
    require_digest,
    require_writable,
    sha256,
    sync,
    with_digest,
)
from swin_deploy.own_files import (
    own_folder,
    remove_own_folder,
    require_own_folder,
    require_own_name,
    sweep,
)
from swin_deploy.records import decode, load_json
from swin_deploy.run.folder import lock_folder
from swin_deploy.run.manifest import is_manifest, this_tool
from swin_deploy.run.names import INT8_GRAPHS, MANIFEST, SIMPLE, STAGING, WEIGHTS
from swin_deploy.run.versions import publish, recover, require_listed

REPORT = "qat.json"
GRAPH, INT8_GRAPH = SIMPLE, INT8_GRAPHS["tensorrt"]
THRESHOLDS = "thresholds.json"
FILES = (WEIGHTS, GRAPH, INT8_GRAPH, THRESHOLDS)
SCHEMA_VERSION = 2  # 2: the report is under its digest
_KEPT = "unfinished"


class QatFolder:
    """The folder under this process's lock; made by ``open_folder``."""

    def __init__(self, path: Path) -> None:
        self.path, self._staging = path, path / STAGING
        unread = self._report() is None and os.path.lexists(path / REPORT)
        recover(path, self._staging, None if unread else self._listed())

    def scratch(self, name: str) -> Path:
        """Where a file is written that ``publish`` gives its final name, if it is of ``FILES``."""
        own_folder(self.path, STAGING)
        return require_own_name(self._staging / name)

    def unfinished(self, name: str) -> Path:
        """Where a state is kept for the next run, if this one dies."""
        return require_own_name(own_folder(self.path, f"{STAGING}/{_KEPT}") / name)

    def published(self, identity: str) -> dict[str, Any] | None:
        """The report that lies there, if it is of this identity and all its files are whole."""
        report, files = self._report(), self._listed()
        if report is None or report.get("identity") != identity:
            return None
        whole = all(
            (self.path / name).is_file() and sha256(self.path / name) == files.get(name)
            for name in FILES
        )
        return report if whole else None

    def _listed(self) -> dict[str, str]:
        """File -> sha256, of the report that lies there."""
        files: dict[str, str] = (self._report() or {}).get("files", {})
        return files

    def _report(self) -> dict[str, Any] | None:
        """The report that lies there, if it is as this version wrote it."""
        path = self.path / REPORT
        try:
            report = load_json(path, finite=False)
            require_digest(report, path, "")
            require_listed(decode(dict[str, str], report.get("files"), path), path, "")
        except (InputError, UnsafeError):  # of no use: another one is made
            return None
        return report if report.get("schema_version") == SCHEMA_VERSION else None

    def publish(self, identity: str, report: dict[str, Any]) -> dict[str, Any]:
        """Give the files their final names and write the report, all of it in one step."""
        head = {"schema_version": SCHEMA_VERSION, "identity": identity, **this_tool()}
        files = {name: sha256(self.scratch(name)) for name in FILES}
        for name in FILES:
            sync(self.scratch(name))
        whole = with_digest(json.loads(json.dumps(head | report | {"files": files})))
        publish(self.path, self._staging, files, self._listed(), self.path / REPORT, whole)
        remove_own_folder(self._staging)
        return whole

    def tidy(self) -> None:
        """Remove what an unfinished run left, but for what the next one can go on with."""
        if not require_own_folder(self._staging):
            return
        for path in self._staging.iterdir():
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.name != _KEPT:
                remove_own_folder(path)


@contextmanager
def open_folder(path: Path, wait_s: float = 0) -> Iterator[QatFolder]:
    """Lock ``path``, making it if need be.

    Raises:
        FileAccessError: Nothing can be written there, or files of something else would be replaced.
        BusyError: Another process is writing there.
    """
    require_writable(path)
    with lock_folder(path, wait_s):
        sweep(path)
        ours = is_manifest(read_json(path / REPORT) or {})
        for name in (MANIFEST, *(() if ours else (REPORT, *FILES))):
            if os.path.lexists(path / name):
                raise FileAccessError(
                    f"{path / name} exists, and no fine-tuning made it", "another --out"
                )
        folder = QatFolder(path)
        try:
            yield folder
        finally:
            folder.tidy()
