"""The import diagram in the README, checked. Imports in this package are absolute."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swin_deploy

ROOT = Path(swin_deploy.__file__).parent

# Lowest first. A module may import from layers below its own, and from nowhere else in here.
LAYERS = (
    ("errors",),
    ("batches", "child", "files", "installed", "interrupts", "metrics", "precisions"),
    ("preprocessing",),
    ("architecture",),
    ("geometry", "vit_architecture"),
    ("networks",),
    ("variants", "interface"),
    ("best_classes",),
    ("config",),
    ("artifacts",),
    ("machine", "data", "model"),
    ("checkpoints", "export_form", "runners", "workers"),
    ("graph", "engine"),
    ("verify",),
    ("bench", "sensitivity"),
    ("evaluate",),
    ("pipeline", "qat", "scaling", "doctor"),
    ("report",),
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


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    found = upward(layer_of(path), path.read_text())
    assert not found, f"{layer_of(path)} may not import {sorted(found)}"


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


@pytest.mark.parametrize(
    "heavy", ["torch", "onnx", "onnxruntime", "rich", "PIL", "numpy", "huggingface_hub"]
)
def test_the_command_line_starts_without(heavy: str) -> None:
    code = f"import sys, swin_deploy.cli.main; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
