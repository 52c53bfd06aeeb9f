"""The import diagram in the README, checked. Imports in this package are absolute."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swin_deploy
from swin_deploy.bundle.closure import import_closure, runtime_closure

ROOT = Path(swin_deploy.__file__).parent

# Lowest first. A module may import from layers below its own, and from nowhere else in here.
LAYERS = (
    ("errors", "narrow"),
    ("plain_files",),
    ("counts", "foreign", "outcome", "own_files", "records"),
    (
        "batches",
        "child",
        "files",
        "installed",
        "interrupts",
        "metrics",
        "precisions",
    ),
    ("kept_reports", "onnx_file", "preprocessing"),
    ("architecture",),
    ("geometry", "vit_architecture"),
    ("networks",),
    ("variants", "interface"),
    ("best_classes", "judge"),
    ("machine", "data", "model"),
    ("checkpoints", "export_form", "runners", "workers"),
    ("graph", "engine"),
    ("run",),
    ("cost",),
    ("verify",),
    ("runtime",),
    ("bench", "sensitivity"),
    ("evaluate",),
    ("pipeline", "scaling", "doctor"),
    ("qat",),
    ("report", "bundle"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = [p for p in sorted(ROOT.rglob("*.py")) if p != ROOT / "__init__.py"]


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def internal_imports(source: str) -> set[str]:
    """First components below the package of everything that ``source`` imports from it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "swin_deploy":
            names |= {f"swin_deploy.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("swin_deploy.")}


def upward(own: str, source: str) -> set[str]:
    imported = internal_imports(source) - {"__version__"}
    return {name for name in imported if name != own and RANK[name] >= RANK[own]}


def test_imports_point_down() -> None:
    found = {path: upward(layer_of(path), path.read_text()) for path in MODULES}
    offenders = [
        f"{path.relative_to(ROOT)} may not import {sorted(names)}"
        for path, names in found.items()
        if names
    ]
    assert len(found) > 100
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    "line",
    [
        "from swin_deploy.cli.main import run",
        "import swin_deploy.cli",
        "from swin_deploy import cli",
    ],
)
def test_an_upward_import_is_seen(line: str) -> None:
    assert upward("graph", line) == {"cli"}


@pytest.mark.parametrize("name", ["model", "graph", "engine"])
def test_network_graph_and_engine_are_strangers(name: str) -> None:
    strangers = {"model", "graph", "engine"} - {name}
    for path in (ROOT / name).rglob("*.py"):
        assert not strangers & internal_imports(path.read_text()), path


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
    (package / "errors.py").write_text(f"{line}\n")
    monkeypatch.setattr("swin_deploy.bundle.closure.ROOT", package)
    assert set(import_closure(["swin_deploy.errors"]).outside) == {"torch"}


def test_what_is_for_the_type_checker_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "swin_deploy"
    package.mkdir()
    (package / "a.py").write_text("if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n")
    monkeypatch.setattr("swin_deploy.bundle.closure.ROOT", package)
    assert set(import_closure(["swin_deploy.a"]).outside) == {"numpy"}


@pytest.mark.parametrize(
    "heavy", ["torch", "onnx", "onnxruntime", "rich", "PIL", "numpy", "huggingface_hub"]
)
def test_the_command_line_starts_without(heavy: str) -> None:
    code = f"import sys, swin_deploy.cli.main; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
