"""Files that are either whole or not there, their hashes, and versions of what is installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import swin_deploy
from swin_deploy.core.errors import ConfigError, FileAccessError, InputError, UnsafeError
from swin_deploy.core.own_files import open_plain, read_plain, unfinished_folder
from swin_deploy.core.records import VERSION, decode, load_json

T = TypeVar("T")

DIGEST = "digest"  # key of a record's own, over all the rest of it


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    value = hashlib.sha256()  # not hashlib.file_digest: devices have Python 3.10
    with open_plain(path) as stream:
        while block := stream.read(1 << 20):
            value.update(block)
    return value.hexdigest()


def is_intact(path: Path, expected: str) -> bool:
    """Whether there is a file, and no link, with that SHA-256."""
    return path.is_file() and not path.is_symlink() and sha256(path) == expected


def digest(value: object) -> str:
    """Hex digest of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal(version: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """A record of this version as ``open_sealed`` reads it back."""
    return with_digest({VERSION: version, **content})


def open_sealed(
    kind: type[T], data: Mapping[str, Any], where: Path, hint: str, own: Iterable[str] = ()
) -> T:
    """What a record says, but for its version, its digest and the keys ``own``.

    Raises:
        InputError: It does not fit; names the key.
        UnsafeError: It is not as ``with_digest`` made it.
    """
    rest = {name: value for name, value in data.items() if name not in (VERSION, DIGEST, *own)}
    said = decode(kind, rest, where, hint)
    require_digest(data, where, hint)
    return said


def with_digest(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same under its own digest."""
    return {**data, DIGEST: digest(data)}


def require_digest(data: Mapping[str, Any], where: Path, hint: str) -> None:
    """Check that a record is as ``with_digest`` made it.

    Raises:
        UnsafeError: It is not.
    """
    found = digest({name: value for name, value in data.items() if name != DIGEST})
    if (recorded := data.get(DIGEST)) != found:
        raise UnsafeError(
            f"{where} was changed since it was written: its digest is {found[:12]}, it says "
            f"{str(recorded)[:12]}",
            hint,
        )


@cache
def source_digest() -> str:
    """Digest of this package's own code: a changed stage is a stage that has to run again."""
    root = Path(swin_deploy.__file__).parent
    return digest({str(p.relative_to(root)): sha256(p) for p in sorted(root.rglob("*.py"))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A file whose hash stands in a record: what is read of it are the bytes that were recorded.

    They are compared as they are read, and used from memory, so nothing can change in between.

    Attributes:
        path: Its name.
        sha256: As it was recorded.
        record: Name of the record, for messages.
        again: What to try if it is another file.
        also: Where the bytes lie while a publication gives ``path`` others, or after it.
    """

    path: Path
    sha256: str
    record: str
    again: str = "export again"
    also: tuple[Path, ...] = ()

    def read(self) -> bytes:
        """The recorded bytes.

        Raises:
            UnsafeError: It is another file.
            InputError: It is missing.
        """

        def load(path: Path) -> tuple[bytes, str]:
            content = read_plain(path)
            return content, hashlib.sha256(content).hexdigest()

        return self._find(load)

    def locate(self) -> Path:
        """Where the bytes lie that were just compared; a publication may move them after that."""
        return self._find(lambda path: (path, sha256(path)))

    def copy_to(self, folder: Path) -> Path:
        """The recorded bytes in a folder that is the caller's alone, for what reads paths."""
        path = folder / self.sha256[:16] / self.path.name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.read())
        return path

    def _find(self, load: Callable[[Path], tuple[T, str]]) -> T:
        """What ``load`` makes of the file with the recorded hash, which it returns as well."""
        found = None
        for path in (self.path, *self.also, self.path):  # settled while the others were looked at
            try:
                content, value = load(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if value == self.sha256:
                return content
            found = found or value
        if found is None:
            raise InputError(f"{self.path} is listed in {self.record} and missing", self.again)
        raise UnsafeError(
            f"{self.path} was changed: sha256 {found[:12]}, {self.record} says {self.sha256[:12]}",
            self.again,
        )


def read_bytes(source: Path | Recorded) -> bytes:
    """The content of a file; of a recorded one, the bytes that were recorded."""
    return source.read() if isinstance(source, Recorded) else read_plain(source)


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a scratch path; it becomes ``final`` only if the block succeeds.

    The scratch file sits in a hidden folder beside ``final``: same filesystem, so the rename is
    atomic, and same base name, so names that a writer embeds in the file stay right. A reader
    sees the old file or the new one, never half of one.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(final) as folder:
        scratch = folder / final.name
        with naming(final):
            yield scratch
            sync(scratch)
        scratch.replace(final)
    sync(final.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the system that names no file, as those of writing, name this one.

    Raises:
        OSError: The same, with the room that is left on the disk.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        reason = f"{error.strerror} ({free:,} bytes are free there)"
        raise OSError(error.errno, reason, str(path)) from error


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None if the file is missing or holds anything else."""
    try:
        return load_json(path, finite=False)
    except InputError:
        return None


def cache_folder(name: str) -> Path:
    """Where this user's files of one kind are kept that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # Its standard has a relative path ignored: it would be another folder in every folder.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "swin-deploy" / name


def share(path: Path) -> None:
    """Give a file the permissions of any new one; safetensors makes files for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def sync(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(folder: Path, hint: str = "--out with a folder that you own") -> None:
    """Make ``folder`` if need be and prove that files can be made in it, before any heavy work.

    Args:
        folder: Where files will be written.
        hint: What to try if they cannot: the option that names it.
    """
    try:
        os.fspath(folder).encode()
    except UnicodeEncodeError as error:
        raise FileAccessError(f"{os.fsencode(folder)!r} is no UTF-8", hint) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileAccessError(f"cannot write in {folder}: {error.strerror}", hint) from error


def require_outside(out: Path | None, folder: Path | None, hint: str, below: bool = True) -> None:
    """Check that what is written does not come to lie among what is read.

    Args:
        out: Where files will be written; None for nowhere.
        folder: With what is read; None for none.
        hint: What to try: the option that names ``out``.
        below: Whether folders below ``folder`` count as well.

    Raises:
        ConfigError: It would.
    """
    if out is None or folder is None:
        return
    found, inside = folder.resolve(), out.resolve()
    if inside == found or (below and found in inside.parents):
        raise ConfigError(f"{out} lies in {folder}, which is read", hint)


def require_plain_file(path: Path, wanted: str) -> None:
    """Refuse what is recognisably something else, before a parser sees it.

    Args:
        path: The file.
        wanted: What it should be, for the message.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    with open_plain(path) as stream:
        head = stream.read(64)
    if not head:
        raise InputError(f"{path} is empty, not {wanted}", "make or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a git-lfs pointer, not {wanted}", "git lfs pull")
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise InputError(f"{path} is a web page, not {wanted}", "download the file itself")


def package_version(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it; None if it is not there."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
