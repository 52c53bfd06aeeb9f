"""The run folder: stages fill a hidden staging area, and one step at the end publishes it.

Until ``publish`` every file of an earlier run stays as it was, and nothing that failed its gate
ever carries a final name. A run that was killed finds its finished stages in the staging area.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_deploy.artifacts.lock import run_lock
from swin_deploy.artifacts.manifest import MANIFEST, Manifest, StageRecord, read_manifest
from swin_deploy.errors import FileAccessError
from swin_deploy.files import require_writable, sha256, share, sync, write_json

STAGING = ".staging"
PARTIAL = "partial"  # below it: unfinished work that a later run goes on with


class RunFolder:
    """A run folder under this process's lock; made by ``open_run``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging = path / STAGING
        self.published = read_manifest(path / MANIFEST) or Manifest()
        self._staged = read_manifest(self.staging / MANIFEST) or Manifest()
        self.current = Manifest()  # what this run has found or made so far

    def find(self, stage: str, key: str) -> StageRecord | None:
        """The record of a stage whose key and files all still match; None if it has to run."""
        for manifest, root in ((self._staged, self.staging), (self.published, self.path)):
            record = manifest.stages.get(stage)
            if record is not None and record.key == key and _intact(root, record):
                self.current.stages[stage] = record
                return record
        return None

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Check that nothing would be overwritten that no run made.

        Raises:
            FileAccessError: A file of one of these names exists, and no manifest beside it.
        """
        if (self.path / MANIFEST).exists():
            return
        for name in names:
            if (self.path / name).exists():
                raise FileAccessError(
                    f"{self.path / name} exists, and no run of this tool made it", "another --out"
                )

    def scratch(self, name: str) -> Path:
        """Where a stage writes the file that will be published as ``name``."""
        path = self.staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def resumable(self, name: str) -> Path:
        """Where a stage keeps the unfinished state of a file, for the next run if this one dies."""
        return self.scratch(f"{PARTIAL}/{name}")

    def file(self, name: str) -> Path:
        """The present file called ``name``: staged if this run made it, else published."""
        staged = self.staging / name
        return staged if staged.is_file() else self.path / name

    def record(
        self,
        stage: str,
        key: str,
        outputs: tuple[str, ...],
        details: dict[str, Any],
        seconds: float,
    ) -> None:
        """Note a finished stage, so that a killed run need not repeat it."""
        for name in outputs:
            share(self.staging / name)
            sync(self.staging / name)
        record = StageRecord(
            key=key,
            outputs={name: sha256(self.staging / name) for name in outputs},
            details=details,
            seconds=round(seconds, 2),
        )
        self._staged.stages[stage] = self.current.stages[stage] = record
        write_json(self.staging / MANIFEST, self._staged.as_dict())

    def publish(self, header: dict[str, object]) -> list[str]:
        """Give every file of this run its final name; the manifest goes last.

        Returns:
            Files of earlier runs that the new manifest no longer lists: left where they are.
        """
        for name in self.current.outputs():
            if (self.staging / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.staging / name).replace(self.path / name)
        for folder in {(self.path / name).parent for name in self.current.outputs()}:
            sync(folder)
        self.current.header = json.loads(json.dumps(header))
        if self.current.as_dict() != self.published.as_dict():
            write_json(self.path / MANIFEST, self.current.as_dict())
        self.discard()
        dropped = self.published.outputs().keys() - self.current.outputs().keys()
        return sorted(name for name in dropped if (self.path / name).is_file())

    def tidy(self) -> None:
        """Remove what an unfinished stage left; finished ones stay for the next run."""
        finished = {self.staging / name for name in self._staged.outputs()}
        for path in self.staging.rglob("*"):
            partial = path.parent == self.staging / PARTIAL
            if path.is_file() and path not in finished and path.name != MANIFEST and not partial:
                path.unlink()
        if not finished and not any((self.staging / PARTIAL).glob("*")):
            self.discard()

    def discard(self) -> None:
        """Forget what this run staged."""
        shutil.rmtree(self.staging, ignore_errors=True)


@contextmanager
def open_run(path: Path, wait_s: float = 0) -> Iterator[RunFolder]:
    """Lock the run folder ``path``, making it if need be.

    Raises:
        FileAccessError: Nothing can be written there.
        BusyError: Another process is writing it.
    """
    require_writable(path)
    with run_lock(path, wait_s):
        folder = RunFolder(path)
        try:
            yield folder
        except BaseException:  # an interrupt too; it is raised again at once
            folder.tidy()
            raise


def _intact(root: Path, record: StageRecord) -> bool:
    return all(
        (root / name).is_file() and sha256(root / name) == expected
        for name, expected in record.outputs.items()
    )
