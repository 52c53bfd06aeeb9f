"""How large the package is and how many places it has, now and at an earlier commit.

    scripts/measure_house.py [--against REVISION ...] [--json]
    scripts/measure_house.py --draw docs/architecture.svg

Lines are all lines of Python files, blank ones and docstrings among them. A name at the top is a
module or a folder of Python files right below swin_deploy. An import counts wherever it stands, in
a function and for the type checker too, and so does a circle of files that import one another.
An arrow is a name at the top that imports from another one. The picture has the rooms by floors:
each imports from the floors below its own, which tests/core/test_layers.py holds.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "swin_deploy"
STARTS = ("__init__.py", "__main__.py")
# The rooms, lowest floor first: one may import from floors below its own, and from no other.
FLOORS = (
    ("core",),
    ("network",),
    ("data",),
    ("engine",),
    ("graph",),
    ("run",),
    ("measure",),
    ("runtime", "pipeline"),
    ("bundle", "report"),
    ("cli",),
    ("__main__",),
)


@dataclass(frozen=True, kw_only=True)
class House:
    """What is counted; the shares are of all lines, in per cent."""

    lines: int
    files: int
    lines_a_file: int
    names_at_the_top: int
    arrows: int
    circles: int
    imports_percent: float
    docstrings_percent: float
    blank_percent: float


def read_tree(root: Path = ROOT) -> dict[str, str]:
    """Path below ``root`` -> text, of every module of the package as it lies there."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


def read_revision(revision: str) -> dict[str, str]:
    """The same of a commit."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision, PACKAGE]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {m.name: tar.extractfile(m) for m in tar if m.name.endswith(".py")}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def module_of(path: str) -> str:
    """swin_deploy/graph/__init__.py -> swin_deploy.graph."""
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def find_imports(tree: ast.AST, modules: Iterable[str]) -> set[str]:
    """Those of ``modules`` that a module imports, whole or a name of theirs."""
    known, found = set(modules), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or ({node.module} & known)
    return found


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    modules = {module_of(path): ast.parse(text) for path, text in sources.items()}
    return {name: find_imports(tree, modules) - {name} for name, tree in modules.items()}


def find_circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names each of which reaches every other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in order:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                circles.append(sorted(group))

    for name in sorted(arrows):
        if name not in order:
            visit(name)
    return circles


def top_of(module: str) -> str:
    """swin_deploy.graph.int8.places -> graph; the package itself has none."""
    return module.split(".")[1] if "." in module else ""


def measure(sources: Mapping[str, str]) -> House:
    """Count it.

    Args:
        sources: As ``read_tree`` gives them.
    """
    trees = {path: ast.parse(text) for path, text in sources.items()}
    text = "\n".join(source.rstrip("\n") for source in sources.values()).splitlines()
    graph = import_graph(sources)
    arrows = {
        (top_of(name), top_of(other))
        for name, others in graph.items()
        for other in others
        if top_of(name) != top_of(other) and top_of(name) and top_of(other)
    }
    names = {PurePosixPath(path).parts[1] for path in sources} - set(STARTS)

    def share(count: Callable[[ast.AST], int]) -> float:
        return round(100 * sum(map(count, trees.values())) / len(text), 1)

    return House(
        lines=len(text),
        files=len(sources),
        lines_a_file=round(len(text) / len(sources)),
        names_at_the_top=len(names),
        arrows=len(arrows),
        circles=len(find_circles(graph)),
        imports_percent=share(_import_lines),
        docstrings_percent=share(_docstring_lines),
        blank_percent=round(100 * sum(not line.strip() for line in text) / len(text), 1),
    )


def _import_lines(tree: ast.AST) -> int:
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom))
    return sum((n.end_lineno or n.lineno) - n.lineno + 1 for n in found)


def _docstring_lines(tree: ast.AST) -> int:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = (n.body[0] for n in ast.walk(tree) if isinstance(n, kinds) and ast.get_docstring(n))
    return sum((n.end_lineno or n.lineno) - n.lineno + 1 for n in found)


def draw(sources: Mapping[str, str]) -> str:
    """An SVG of the rooms by floors, each with the first line of its docstring."""
    wide, high, gap = 1000, 54, 8
    floors = [names for names in reversed(FLOORS) if names != ("__main__",)]
    boxes = []
    for floor, names in enumerate(floors):
        width = (wide - gap * (len(names) + 1)) / len(names)
        for place, name in enumerate(names):
            x, y = gap + place * (width + gap), gap + floor * (high + gap)
            text = ast.get_docstring(ast.parse(sources[f"{PACKAGE}/{name}/__init__.py"])) or ""
            first = _shorten(text.splitlines()[0].replace("``", ""), int(width / 7.4))
            left = f'<text x="{x + 12:g}"'
            boxes += [
                f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{high}" rx="6"/>',
                f'{left} y="{y + 22}" class="name">{name}</text>',
                f'{left} y="{y + 42}">{escape(first)}</text>',
            ]
    size = gap + len(floors) * (high + gap)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {size}" role="img">',
            f"<title>The rooms of {PACKAGE}: imports go down only</title>",
            "<style>rect{fill:#eef3f8;stroke:#37526b}"
            "text{font:13px sans-serif;fill:#222}"
            ".name{font-weight:bold;font-size:15px}</style>",
            *boxes,
            "</svg>\n",
        )
    )


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rsplit(' ', 1)[0]} …"


def main() -> None:
    """Print a column for every revision and one for the files as they lie here."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", nargs="*", default=[], metavar="REVISION")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draw", type=Path, metavar="FILE")
    asked = parser.parse_args()
    if asked.draw is not None:
        asked.draw.write_text(draw(read_tree()), encoding="utf-8")
        return
    houses = {revision: measure(read_revision(revision)) for revision in asked.against}
    houses["here"] = measure(read_tree())
    if asked.json:
        print(json.dumps({name: asdict(house) for name, house in houses.items()}, indent=2))
        return
    width = max(10, *map(len, houses))
    print(" " * 20 + "".join(f"{name:>{width + 2}}" for name in houses))
    for field in asdict(houses["here"]):
        row = (f"{getattr(house, field):>{width + 2},}" for house in houses.values())
        print(f"{field.replace('_', ' '):20}" + "".join(row))
    for circle in find_circles(import_graph(read_tree())):
        print("circle:", ", ".join(circle))


if __name__ == "__main__":
    main()
