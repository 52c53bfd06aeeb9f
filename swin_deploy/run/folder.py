"""The run folder: stages fill a hidden staging area, and one step at the end publishes it.

Until ``publish`` every file of an earlier run stays as it was, and nothing that failed its gate
ever carries a final name. A run that was killed finds its finished stages in the staging area.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import read_json, require_writable, sha256, share, sync
from swin_deploy.core.own_files import (
    lock_own,
    own_folder,
    remove_own_folder,
    require_own_folder,
    require_own_name,
    sweep,
)
from swin_deploy.run.details import LOCK, MANIFEST, STAGING
from swin_deploy.run.manifest import (
    Header,
    Manifest,
    StageRecord,
    Stages,
    is_manifest,
    plain_details,
    read_manifest,
    read_stages,
    write_stages,
)
from swin_deploy.run.versions import publish, recover

PARTIAL = "partial"  # below the staging area: unfinished work that a later run goes on with


class RunFolder:
    """A run folder under this process's lock; made by ``open_run``.

    Attributes:
        path: The folder.
        published: The manifest that lies there; None if there is none that this version reads.
        current: What this run has found or made so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging = path / STAGING
        self.published: Manifest | None = None
        with suppress(InputError, UnsafeError):  # of no use for a run, which makes another one
            self.published = read_manifest(path / MANIFEST)
        unread = self.published is None and os.path.lexists(path / MANIFEST)
        recover(path, self.staging, None if unread else (self.published or Stages()).outputs())
        self._staged = read_stages(self.staging / MANIFEST)
        self.current = Stages()

    def find(self, stage: str, key: str) -> StageRecord | None:
        """The record of a stage whose key and files all still match; None if it has to run."""
        published = self.published or Stages()
        for made, root in ((self._staged, self.staging), (published, self.path)):
            record = made.stages.get(stage)
            if record is not None and record.key == key and _intact(root, record):
                self.current.stages[stage] = record
                return record
        return None

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Check that nothing would be overwritten that no run made."""
        if is_manifest(read_json(self.path / MANIFEST) or {}):
            return
        for name in (MANIFEST, *names):
            if os.path.lexists(self.path / name):
                raise FileAccessError(
                    f"{self.path / name} exists, and no run of this tool made it", "another --out"
                )

    def scratch(self, name: str) -> Path:
        """Where a stage writes the file that will be published as ``name``."""
        own_folder(self.path, f"{STAGING}/{Path(name).parent}")
        return require_own_name(self.staging / name)

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
            details=plain_details(stage, details),
            seconds=round(seconds, 2),
        )
        self._staged.stages[stage] = self.current.stages[stage] = record
        write_stages(self.scratch(MANIFEST), self._staged)

    def publish(self, header: Header) -> list[str]:
        """Give every file of this run its final name, all of them in one step.

        Returns:
            Files of earlier runs that the new manifest no longer lists: left where they are.
        """
        new = Manifest(header=header, stages=self.current.stages)
        old = (self.published or Stages()).outputs()
        content, earlier = new.as_dict(), self.published and self.published.as_dict()
        if content != earlier or self._staged.stages:
            publish(self.path, self.staging, new.outputs(), old, self.path / MANIFEST, content)
        self.discard()
        dropped = old.keys() - new.outputs().keys()
        return sorted(name for name in dropped if (self.path / name).is_file())

    def tidy(self) -> None:
        """Remove what an unfinished stage left; finished ones stay for the next run."""
        if not require_own_folder(self.staging):
            return
        finished = {self.staging / name for name in self._staged.outputs()}
        kept = self.staging / PARTIAL
        for path in sorted(self.staging.rglob("*"), reverse=True):  # what is in a folder before it
            if path.is_dir() and not path.is_symlink():
                continue
            if path not in finished and path.name != MANIFEST and path.parent != kept:
                path.unlink()
        if not finished and not any(kept.glob("*")):
            self.discard()

    def discard(self) -> None:
        """Forget what this run staged."""
        remove_own_folder(self.staging)


@contextmanager
def open_run(path: Path, wait_s: float = 0) -> Iterator[RunFolder]:
    """Lock the run folder ``path``, making it if need be."""
    require_writable(path)
    with lock_folder(path, wait_s):
        sweep(path)
        for name in (STAGING, "engines"):
            if require_own_folder(path / name):
                sweep(path / name)
        run = RunFolder(path)
        try:
            yield run
        except BaseException:  # an interrupt too; it is raised again at once
            run.tidy()
            raise


@contextmanager
def lock_folder(path: Path, wait_s: float = 0) -> Iterator[None]:
    """Be the only writer of a folder."""
    with lock_own(path / LOCK, str(path), "--wait SECONDS, or another --out", wait_s):
        yield


def _intact(root: Path, record: StageRecord) -> bool:
    return all(
        (root / name).is_file() and sha256(root / name) == expected
        for name, expected in record.outputs.items()
    )
