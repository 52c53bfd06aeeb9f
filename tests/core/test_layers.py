"""The import diagram in the README, checked. Imports in this package are absolute."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swin_deploy
from measure_house import FLOORS, draw, find_circles, find_imports, import_graph, read_tree, top_of
from swin_deploy.bundle.archive import import_closure, runtime_closure

ROOT = Path(swin_deploy.__file__).parent

RANK = {name: rank for rank, names in enumerate(FLOORS) for name in names}
SOURCES = read_tree(ROOT.parent)
IMPORTS = import_graph(SOURCES)


def upward(own: str, others: set[str]) -> set[str]:
    """Those of ``others``, modules, that a module of the room ``own`` may not import."""
    rooms = {top_of(other) for other in others} - {own, ""}
    return {name for name in rooms if RANK[name] >= RANK[own]}


def test_imports_point_down() -> None:
    found = {name: upward(top_of(name), others) for name, others in IMPORTS.items() if top_of(name)}
    assert not {name: rooms for name, rooms in found.items() if rooms}


def test_the_picture_shows_the_rooms_as_they_are() -> None:
    picture = ROOT.parent / "docs" / "architecture.svg"
    assert picture.read_text("utf-8") == draw(SOURCES), "scripts/measure_house.py --draw"


def test_no_files_import_one_another() -> None:
    """Not over several files either, not within a function, and not for the type checker alone."""
    assert find_circles(IMPORTS) == []


def test_a_circle_is_seen() -> None:
    files = {
        "swin_deploy/a.py": "def late():\n    from swin_deploy.b import c\n",
        "swin_deploy/b/__init__.py": "",
        "swin_deploy/b/c.py": "import swin_deploy.d",
        "swin_deploy/d.py": "if TYPE_CHECKING:\n    from swin_deploy.a import late\n",
    }
    assert find_circles(import_graph(files)) == [
        ["swin_deploy.a", "swin_deploy.b.c", "swin_deploy.d"],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "from swin_deploy.cli.main import run",
        "import swin_deploy.cli.main",
        "from swin_deploy.cli import main",
    ],
)
def test_an_upward_import_is_seen(line: str) -> None:
    assert upward("graph", find_imports(ast.parse(line), IMPORTS)) == {"cli"}


def test_network_graph_and_engine_are_strangers() -> None:
    """Each is made from a file of the one before; runners alone know what they run."""
    runners = {name for name in IMPORTS if name.startswith("swin_deploy.engine.runners")}
    strangers = {"graph": ("network.model", "engine"), "engine": ("network.model", "graph")}
    for name in IMPORTS.keys() - runners:
        others = strangers.get(top_of(name), ())
        prefixes = tuple(f"swin_deploy.{other}" for other in others)
        found = {o for o in IMPORTS[name] - runners if prefixes and o.startswith(prefixes)}
        assert not found, name


# What a device has: numpy, Pillow, and the library of its engine; those of TensorRT are imported by
# a computed name and not seen here. cryptography is imported where a signature is asked for.
DEVICE = {"numpy", "PIL", "onnxruntime", "openvino", "cryptography"}


def test_the_runtime_needs_nothing_that_a_device_lacks() -> None:
    """Imports within functions count: whatever line is reached, it can be run."""
    found = runtime_closure()
    assert set(found.outside) <= DEVICE, found.outside
    modules = [name for name in found.modules if name.startswith("swin_deploy.runtime.")]
    assert len(modules) == len(list((ROOT / "runtime").glob("[!_]*.py")))


def test_the_runtime_is_python_3_10() -> None:
    """By its syntax and by the newer names of the standard library; another test runs it there."""
    new = {"tomllib", "Self", "StrEnum", "file_digest", "ExceptionGroup", "UTC", "assert_never"}
    for path in runtime_closure().modules.values():
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        assert not names_at_run_time(tree) & new, path


def names_at_run_time(node: ast.AST) -> set[str]:
    """What is imported or looked up, but by type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = set[str]()
    if isinstance(node, ast.Import | ast.ImportFrom):
        found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.Attribute):
        found.add(node.attr)
    return found.union(*map(names_at_run_time, ast.iter_child_nodes(node)))


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "def late() -> None:\n    from torch import nn",
        "if True:\n    import torch.onnx",
    ],
)
def test_what_a_device_lacks_is_seen(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "swin_deploy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(f"{line}\n")
    monkeypatch.setattr("swin_deploy.bundle.archive.ROOT", package)
    assert set(import_closure(["swin_deploy.a"]).outside) == {"torch"}


def test_what_is_for_the_type_checker_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "swin_deploy"
    package.mkdir()
    (package / "a.py").write_text("if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n")
    monkeypatch.setattr("swin_deploy.bundle.archive.ROOT", package)
    assert set(import_closure(["swin_deploy.a"]).outside) == {"numpy"}


@pytest.mark.parametrize(
    "heavy", ["torch", "onnx", "onnxruntime", "rich", "PIL", "numpy", "huggingface_hub"]
)
def test_the_command_line_starts_without(heavy: str) -> None:
    code = f"import sys, swin_deploy.cli.main; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
