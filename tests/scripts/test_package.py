"""A wheel and a source archive work where no checkout is; what they need has known hashes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from mutation.trees import copy_tree

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]
BUILD = (
    "import sys; from setuptools import build_meta\n"
    "print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
)
LOCK = ROOT / "constraints.lock"


def build(tree: Path, what: str, folder: Path) -> Path:
    """A "wheel" or an "sdist" of a tree, as pip makes them, by the setuptools of the tests."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, f"build_{what}", str(folder)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("package") / "tree")


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    return build(tree, "wheel", tree.parent / "wheel")


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    return build(tree, "sdist", tree.parent / "sdist")


def test_a_wheel_has_every_file_of_the_package(tree: Path, wheel: Path) -> None:
    found = {name for name in members(wheel) if not name.startswith("swin_deploy-")}
    package = [path for path in (tree / "swin_deploy").rglob("*") if path.is_file()]
    expected = {path.relative_to(tree).as_posix() for path in package}
    assert found == {name for name in expected if "__pycache__" not in name}
    assert {Path(name).suffix for name in found} >= {".py", ".safetensors", ".css", ".j2", ".js"}


def test_the_source_archive_makes_the_same_wheel(tmp_path: Path, wheel: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert members(build(unpacked, "wheel", tmp_path / "wheel")) == members(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program of an environment that has the wheel, and its dependencies by a path file.

    Those are the installed ones of this environment, because PyTorch alone has 200 MB; of this
    project it sees the wheel: path files of a folder that a path file names are not read.
    """
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def call(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [folder / "venv" / "bin" / program, *arguments],
            cwd=folder,
            env=inherited,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call("python", "-c", "import swin_deploy; print(swin_deploy.__file__)").strip()
    assert Path(where) == packages / "swin_deploy" / "__init__.py"
    return call


def test_it_says_what_it_can_do(installed: Callable[..., str]) -> None:
    assert "export" in installed("swin-deploy", "--help")
    assert "onnxruntime" in installed("swin-deploy", "doctor")


def test_it_exports_and_draws_its_page(installed: Callable[..., str]) -> None:
    network = ("--variant", "swin_pocket", "--weights", "bundled", "--target", "cpu")
    done = json.loads(installed("swin-deploy", "export", *network, "--out", "run", "--json"))
    assert done["verification"]["passed"]
    assert "report.html" in installed("swin-deploy", "report", "run", "--out", "report.html")


def locked() -> dict[str, tuple[str, list[str]]]:
    """Normalised name -> its version and hashes in the lock."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in LOCK.read_text().splitlines():
        if named := re.match(r"(\S+)==(\S+) \\", line):
            hashes: list[str] = []
            found[re.sub(r"[-_.]+", "-", named[1]).lower()] = (named[2], hashes)
        elif digest := re.match(r" +--hash=sha256:([0-9a-f]{64})(?: \\)?$", line):
            hashes.append(digest[1])
        else:
            assert line.lstrip().startswith("#"), line
    return found


def test_every_version_has_its_hashes() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs.items()}
    assert pins.pop("torch")  # of which the right build depends on the machine
    assert {name: version for name, (version, _) in locked().items()} == pins
    for name, (_, hashes) in locked().items():
        assert hashes, name
        assert len(set(hashes)) == len(hashes), name


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    named = [
        *project["dependencies"],
        *(line for extra, ls in extras if extra != "tensorrt" for line in ls),
    ]
    for line in named:
        name = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower()  # type: ignore[index]
        assert name == "torch" or name in locked(), f"{name}: run scripts/lock"


def test_an_environment_takes_what_its_extras_need() -> None:
    script = SourceFileLoader("venv_script", str(ROOT / "scripts" / "venv"))
    module = module_from_spec(spec_from_loader("venv_script", script))  # type: ignore[arg-type]
    script.exec_module(module)

    def chosen(users: set[str], names: list[str]) -> set[str]:
        return {block.partition("==")[0] for block in module.locked(users, names)}

    assert {"numpy", "onnx", "setuptools"} <= chosen({"base"}, [])
    assert not {"ray", "timm", "torch"} & chosen({"base"}, [])
    assert chosen({"base", "ray"}, ["timm"]) > chosen({"base"}, []) | {"ray", "timm"}
    assert chosen(set(), ["timm"]) == {"timm"}
    with pytest.raises(SystemExit, match=r"has no nothing: run scripts/lock"):
        module.locked(set(), ["nothing"])


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path, wheel: Path) -> None:
    """Pip itself refuses it, given the form of our lock."""
    requirement = (
        f"swin-deploy @ {wheel.as_uri()} \\\n    --hash=sha256:{'0' * 64}\n    # for base\n"
    )
    (tmp_path / "lock.txt").write_text(requirement)
    pip = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-index"]
    pip += ["--target", str(tmp_path / "x"), "--requirement", str(tmp_path / "lock.txt")]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "x").exists()
