"""The record of what was built here, ``engines/engine.json``: which files, for what, how exact."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.core.files import Recorded, open_sealed, seal
from swin_deploy.core.records import VERSION, load_json
from swin_deploy.engine.here import Fingerprint, fingerprint_here, mismatch
from swin_deploy.engine.targets import find_target
from swin_deploy.network.interface import Precision
from swin_deploy.runtime.trust import ENGINES, UnpackedBundle

SCHEMA_VERSION = 2
RECORD = f"{ENGINES}/engine.json"
LOCK = ".lock"  # in the folder of engines, as the next
# What the names of the folders begin with that a build works in; the second is of ``atomic_path``.
WORK = (".building-", ".engine.json.")
REBUILD = "python3 swin.pyz build"
_NAME = re.compile(r"[0-9a-f]{16}")  # of the folder of an engine: the beginning of a digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine that was built here.

    Attributes:
        files: Path in the bundle -> SHA-256, the engine first.
        built_for: What it takes to load it.
        verification: How far it is from eager PyTorch: ``Verification.as_dict``.
    """

    files: dict[str, str]
    built_for: Fingerprint
    verification: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("files = {}: an engine has at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was built of one bundle: ``engine.json``, written and read by this class.

    Attributes:
        bundle_sha256: Which bundle.
        target: Its target.
        engines: By precision.
    """

    bundle_sha256: str
    target: str
    engines: dict[Precision, Built]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``read_record`` reads back."""
        return seal(SCHEMA_VERSION, asdict(self))


def no_record(shipped: UnpackedBundle) -> Record:
    """That of a bundle of which nothing was built."""
    return Record(bundle_sha256=shipped.sha256, target=shipped.target, engines={})


def read_record(shipped: UnpackedBundle) -> Record:
    """What was built of this bundle; empty where nothing was.

    Raises:
        UnsafeError: The record is of another bundle, or a link, or not as it was written.
        InputError: The record is damaged, or of another version; names the key.
    """
    path = shipped.folder / RECORD
    if path.is_symlink() or path.parent.is_symlink():
        raise UnsafeError(f"{path} is a link, or lies in one", f"remove it, and {REBUILD}")
    if not path.exists():
        return no_record(shipped)
    data = load_json(path, REBUILD, finite=False)
    if (version := data.get(VERSION)) != SCHEMA_VERSION:
        raise InputError(f"{path} is no record of this version: {version!r}", REBUILD)
    record = open_sealed(Record, data, path, REBUILD)
    if (of := record.bundle_sha256) != shipped.sha256:
        raise UnsafeError(
            f"{path} is of another bundle: {of[:12]}, this one is {shipped.sha256[:12]}", REBUILD
        )
    return record


def find_unlisted(folder: Path, record: Record) -> list[Path]:
    """What lies in a folder of engines and is in no record of them: files, folders and links.

    The lock of a build does not count, nor do the folders that it works in or ``find_former``
    finds: builds clear them away, and nothing loads from them.

    Args:
        folder: ``engines`` of a bundle; need not be there.
        record: Of it.
    """
    listed, former = _listed(record), find_former(folder, record)
    strangers: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        link = path.is_symlink()
        if path.is_file() and not link and path.name in (LOCK, Path(RECORD).name):
            continue
        if path.is_dir() and not link and (path.name.startswith(WORK) or path in former):
            continue
        if path.is_dir() and path.name in listed:  # links of these are told where they are opened
            strangers += sorted(p for p in path.iterdir() if p.name not in listed[path.name])
            continue
        strangers.append(path)
    return strangers


def find_former(folder: Path, record: Record) -> list[Path]:
    """Folders of engines that are in no record: those of before, and of builds that were cut off.

    An engine gets its folder before the record says so, and keeps it when the record says so no
    more: who reads an older record still finds what that lists.

    Args:
        folder: As of ``find_unlisted``.
        record: Likewise.
    """
    listed = _listed(record)
    return [
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if _NAME.fullmatch(path.name)
        and path.name not in listed
        and path.is_dir()
        and not path.is_symlink()
    ]


def _listed(record: Record) -> dict[str, set[str]]:
    """Name of a folder -> names of its files."""
    listed: dict[str, set[str]] = {}
    for entry in record.engines.values():
        for name in entry.files:
            inside, _, file = name.removeprefix(f"{ENGINES}/").partition("/")
            listed.setdefault(inside, set()).add(file)
    return listed


def require_only_listed(shipped: UnpackedBundle, record: Record) -> None:
    """Check that all engines that lie in a bundle were built there."""
    if strangers := find_unlisted(shipped.folder / ENGINES, record):
        raise UnsafeError(f"{strangers[0]} is listed in no {RECORD}", "move it elsewhere")


def require_engine(
    shipped: UnpackedBundle, precision: str | None
) -> tuple[Precision, tuple[Recorded, ...]]:
    """The engine of a precision, after all that can be said of it before it is opened.

    Args:
        shipped: The bundle, whose files were checked.
        precision: None for the one that is preferred of those that were built.

    Returns:
        Its precision, and its files in order with their recorded hashes.
    """
    record = read_record(shipped)
    if not record.engines:
        require_only_listed(shipped, record)
        raise InputError(f"nothing was built in {shipped.folder} yet", REBUILD)
    chosen = shipped.choose(precision)
    if precision is None and chosen not in record.engines:
        chosen = shipped.choose(next(iter(record.engines)))
    if chosen not in record.engines:
        raise InputError(
            f"{shipped.folder} has no engine in {chosen}, only in {', '.join(record.engines)}",
            f"{REBUILD} --precision {chosen}",
        )
    files = _require_own(shipped, record.engines[chosen])
    require_only_listed(shipped, record)
    return chosen, files


def _require_own(shipped: UnpackedBundle, built: Built) -> tuple[Recorded, ...]:
    for name in built.files:
        path = shipped.folder / name
        if not _inside(name) or path.is_symlink() or path.parent.is_symlink():
            raise UnsafeError(f"{path} is not a file that was built here, or is a link", REBUILD)
    files = tuple(
        Recorded(path=shipped.folder / name, sha256=expected, record=RECORD, again=REBUILD)
        for name, expected in built.files.items()
    )
    _require_machine(shipped, built.built_for, files[0].path)
    for file in files:
        if not file.path.is_file():
            raise UnsafeError(f"{file.path} is missing, {RECORD} lists it", REBUILD)
        file.read()
    return files


def _inside(name: str) -> bool:
    """Whether it can be the path of a file two levels below the bundle, in ``engines``."""
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == ENGINES and not any(p in ("", ".", "..") for p in parts)


def _require_machine(shipped: UnpackedBundle, recorded: Fingerprint, path: Path) -> None:
    from swin_deploy.engine.open import why_not_here  # numpy, which ``info`` does without

    target = find_target(shipped.target)
    if (problem := why_not_here(target)) is not None:
        raise EnvironmentMissingError(f"{path} cannot run here: {problem}", target.install)
    here = fingerprint_here(target.module, target.distribution)
    if (reason := mismatch(recorded, here)) is not None:
        raise EnvironmentMissingError(
            f"{path} was built for {recorded}, here is {here}: {reason}",
            "build it again with the Python that predicts: "
            f"{shlex.join([sys.executable, str(shipped.folder / 'swin.pyz'), 'build'])}",
        )
