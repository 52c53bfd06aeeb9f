"""Zip files whose bytes follow from their contents alone; and the modules that a part needs."""

from __future__ import annotations

import ast
import io
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import swin_deploy
from swin_deploy.core.errors import FileAccessError
from swin_deploy.core.files import Recorded, naming, sync
from swin_deploy.core.own_files import NO_LINKS, unfinished_folder

ROOT = Path(swin_deploy.__file__).parent
PACKAGE = ROOT.name


@dataclass(frozen=True, slots=True)
class Closure:
    """What was found.

    Attributes:
        modules: Name -> file, of this package.
        outside: Top-level name of what belongs neither to it nor to the standard library -> the
            modules that import it.
    """

    modules: dict[str, Path]
    outside: dict[str, tuple[str, ...]]


def runtime_closure() -> Closure:
    """What the runtime needs, and what is put into ``swin.pyz`` therefore."""
    folder = ROOT / "runtime"
    return import_closure(f"{PACKAGE}.runtime.{path.stem}" for path in folder.glob("[!_]*.py"))


def import_closure(roots: Iterable[str]) -> Closure:
    """The modules that ``roots`` import, directly or not, at the top or within functions.

    Imports for type checkers alone do not count. Modules that are imported by a computed name, as
    those of TensorRT are, cannot be seen.

    Args:
        roots: Names of modules of this package.
    """
    modules: dict[str, Path] = {}
    outside: dict[str, set[str]] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        path = _find(name)
        if name in modules or path is None:
            continue
        modules[name] = path
        waiting += [name.rpartition(".")[0]] if "." in name else []
        for imported in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = imported.partition(".")[0]
            if top == PACKAGE:
                waiting.append(imported)
            elif top not in sys.stdlib_module_names:
                outside.setdefault(top, set()).add(name)
    return Closure(
        dict(sorted(modules.items())),
        {name: tuple(sorted(users)) for name, users in sorted(outside.items())},
    )


def _find(name: str) -> Path | None:
    """The file of a module of this package; None if the name is that of something in a module."""
    base = ROOT.parent.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for other in node.orelse:
            yield from _imports(other)
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        yield node.module
        for alias in node.names:  # each may be a module, or something in one
            yield f"{node.module}.{alias.name}"
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


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
