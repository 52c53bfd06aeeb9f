"""Which modules a part of this package needs: all that any line of it may import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import swin_deploy

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
