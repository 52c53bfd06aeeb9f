"""The folder of a fine-tuning, all files of one or none; and where a killed one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from swin_deploy.core.errors import FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import (
    atomic_path,
    read_json,
    require_digest,
    require_writable,
    sha256,
    sync,
    with_digest,
)
from swin_deploy.core.own_files import (
    own_folder,
    remove_own_folder,
    require_own_folder,
    require_own_name,
    sweep,
)
from swin_deploy.core.records import decode, load_json, reading
from swin_deploy.pipeline.qat.train import Trainer
from swin_deploy.run.details import INT8_GRAPHS, MANIFEST, SIMPLE, STAGING, WEIGHTS
from swin_deploy.run.folder import lock_folder
from swin_deploy.run.manifest import is_manifest, this_tool
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
    """Lock ``path``, making it if need be."""
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


_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def save_state(path: Path, identity: str, trainer: Trainer, losses: list[float]) -> None:
    """Write parameters and optimiser after some epochs, atomically.

    Args:
        path: Replaced if it exists.
        identity: Digest of all that the training depends on.
        trainer: After them.
        losses: Of the finished epochs.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainer.network.model.named_parameters():
        tensors[f"parameter.{name}"] = parameter.detach()
        moments = trainer.optimizer.state[parameter]
        tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
    with atomic_path(path) as scratch:
        save_file(tensors, scratch, {"identity": identity, "losses": json.dumps(losses)})


def restore_state(
    path: Path, identity: str, trainer: Trainer, note: Callable[[str], None]
) -> list[float]:
    """Bring ``trainer`` to where ``path`` says; returns the losses of the finished epochs.

    Args:
        path: As ``save_state`` writes it, or anything else.
        identity: What it has to be of.
        trainer: Changed only if all of it can be.
        note: Is told why a file does not count.
    """
    if not path.exists():
        return []
    parameters = dict(trainer.network.model.named_parameters())
    wanted = {f"{kind}.{name}" for kind in ("parameter", *_MOMENTS) for name in parameters}
    try:
        with reading(path, "a state of a training"), safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("identity") != identity:
                note(f"{path} is of another training: starting again")
                return []
            if set(file.keys()) != wanted:
                raise ValueError("its tensors are not those of the network")
            losses = [float(loss) for loss in json.loads(facts["losses"])]
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (InputError, FileAccessError) as error:
        note(f"{path} cannot be used ({error.problem}): starting again")
        return []
    steps = torch.tensor(float(len(losses) * trainer.steps))
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter.{name}"])
        moments = {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
        trainer.optimizer.state[parameter] = {"step": steps.clone(), **moments}
    return losses
