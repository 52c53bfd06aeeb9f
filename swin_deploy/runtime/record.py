"""The record of what was built here, ``engines/engine.json``: which files, for what, how exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_deploy.engine.fingerprint import fingerprint_here, mismatch, read_fingerprint
from swin_deploy.engine.open import why_not_here
from swin_deploy.engine.targets import find_target
from swin_deploy.errors import EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.files import read_json
from swin_deploy.precisions import Precision
from swin_deploy.runtime.shipped import ENGINES, Shipped
from swin_deploy.runtime.trust import require_hash

SCHEMA_VERSION = 1
RECORD = f"{ENGINES}/engine.json"
REBUILD = "python3 swin.pyz build"


@dataclass(frozen=True, slots=True)
class Record:
    """What was built of one bundle.

    Attributes:
        engines: Precision -> its "files" (path -> SHA-256, the engine first), "built_for" and
            "verification".
    """

    engines: dict[str, dict[str, Any]]

    def as_dict(self, shipped: Shipped) -> dict[str, Any]:
        """The JSON object that ``read_record`` reads back."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bundle_sha256": shipped.sha256,
            "target": shipped.target,
            "engines": self.engines,
        }


def read_record(shipped: Shipped) -> Record:
    """What was built of this bundle; empty where nothing was.

    Raises:
        UnsafeError: There are engines without a record, or the record is of another bundle.
        InputError: The record is damaged.
    """
    path = shipped.folder / RECORD
    if path.is_symlink() or path.parent.is_symlink():
        raise UnsafeError(f"{path} is a link, or lies in one", f"remove it, and {REBUILD}")
    if not path.exists():
        strangers = sorted(path.parent.glob("[!.]*/*"))
        if strangers:
            raise UnsafeError(f"{strangers[0]} is listed in no {RECORD}", REBUILD)
        return Record({})
    data = read_json(path)
    if data is None or data.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path} is no record of this version", REBUILD)
    if (of := data.get("bundle_sha256")) != shipped.sha256:
        raise UnsafeError(
            f"{path} is of another bundle: {str(of)[:12]}, this one is {shipped.sha256[:12]}",
            REBUILD,
        )
    engines = data.get("engines")
    if not isinstance(engines, dict) or not all(isinstance(e, dict) for e in engines.values()):
        raise InputError(f"{path} is damaged: it lists no engines", REBUILD)
    return Record(engines)


def require_engine(shipped: Shipped, precision: str | None) -> tuple[Precision, Path]:
    """The engine of a precision, after all that can be said of it before it is opened.

    Args:
        shipped: The bundle, whose files were checked.
        precision: None for the one that is preferred of those that were built.

    Raises:
        InputError: It was not built, or its record is damaged.
        EnvironmentMissingError: It was built for another version, GPU or platform; names both.
        UnsafeError: It is not the file that was built, or of another bundle.
    """
    record = read_record(shipped)
    if not record.engines:
        raise InputError(f"nothing was built in {shipped.folder} yet", REBUILD)
    chosen = shipped.choose(precision)
    if precision is None and chosen not in record.engines:
        chosen = shipped.choose(next(iter(record.engines)))
    if chosen not in record.engines:
        raise InputError(
            f"{shipped.folder} has no engine in {chosen}, only in {', '.join(record.engines)}",
            f"{REBUILD} --precision {chosen}",
        )
    return chosen, _require_own(shipped, record.engines[chosen])


def _require_own(shipped: Shipped, entry: Mapping[str, Any]) -> Path:
    files = entry.get("files")
    if not isinstance(files, dict) or not files:
        raise InputError(f"{shipped.folder / RECORD} lists no files of an engine", REBUILD)
    for name in files:
        path = shipped.folder / name
        if not _inside(name) or path.is_symlink() or path.parent.is_symlink():
            raise UnsafeError(f"{path} is not a file that was built here, or is a link", REBUILD)
    first = shipped.folder / str(next(iter(files)))
    _require_machine(shipped, entry, first)
    for name, expected in files.items():
        path = shipped.folder / name
        if not path.is_file():
            raise UnsafeError(f"{path} is missing, {RECORD} lists it", REBUILD)
        require_hash(path, str(expected), RECORD)
    return first


def _inside(name: str) -> bool:
    """Whether it can be the path of a file two levels below the bundle, in ``engines``."""
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == ENGINES and not any(p in ("", ".", "..") for p in parts)


def _require_machine(shipped: Shipped, entry: Mapping[str, Any], path: Path) -> None:
    target = find_target(shipped.target)
    if (problem := why_not_here(target)) is not None:
        raise EnvironmentMissingError(f"{path} cannot run here: {problem}", target.install)
    recorded = read_fingerprint(entry, path)
    here = fingerprint_here(target.module, target.distribution)
    if (reason := mismatch(recorded, here)) is not None:
        raise EnvironmentMissingError(
            f"{path} was built for {recorded}, here is {here}: {reason}", REBUILD
        )
