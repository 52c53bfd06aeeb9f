"""What tests do with bundles: unpack them, run their program, damage them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import manifests
from conftest import Silent
from swin_deploy.bundle.make import BundleRequest, make_bundle
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.trust import open_bundle

Facts = dict[str, Any]


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


_WALL = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Wall())
"""


def swin_pyz(
    python: str | Path, folder: Path, *arguments: str, without: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the program of a bundle as a person at the device does, who has nothing else.

    Args:
        python: The interpreter.
        folder: Of the bundle.
        arguments: After the program's name.
        without: Modules that cannot be imported, nor by its children.
    """
    environment = {"PATH": "/usr/bin:/bin"}
    if without:
        wall = folder.parent / "wall"
        wall.mkdir(exist_ok=True)
        (wall / "sitecustomize.py").write_text(_WALL.format(names=without))
        environment["PYTHONPATH"] = str(wall)
    return subprocess.run(
        [python, folder.name + "/swin.pyz", *arguments],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def rewrite(folder: Path, change: Callable[[Facts], None]) -> None:
    """Change ``bundle.json``, and record the hashes of the files as they are now."""

    def edit(facts: Facts) -> None:
        change(facts)
        for name in facts["files"]:
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            facts["files"][name] = {"sha256": digest, "bytes": len(content)}

    manifests.edit_record(folder / "bundle.json", edit)


def edit_record(folder: Path, change: Callable[[Facts], None]) -> None:
    """Change what ``engines/engine.json`` says of the FP32 engine."""
    path = folder / "engines" / "engine.json"
    manifests.edit_record(path, lambda record: change(record["engines"]["fp32"]))


def engine_of(folder: Path) -> Path:
    """The FP32 engine that was built."""
    record = json.loads((folder / "engines" / "engine.json").read_text())
    return folder / next(iter(record["engines"]["fp32"]["files"]))


def flip(path: Path, at: int = -100) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def quiet(text: str) -> None:
    del text


@pytest.fixture(scope="session")
def digits_archive(digits_run: Path) -> Path:
    """What is shipped of it to a CPU in FP32."""
    request = BundleRequest(run=digits_run, target="cpu", precisions=("fp32",))
    return make_bundle(request, Silent().started).path


@pytest.fixture(scope="session")
def digits_folder(digits_archive: Path) -> Path:
    """The same, unpacked and built by the libraries of the tests. Tests must not change it."""
    folder = digits_archive.parent / "unpacked"
    with zipfile.ZipFile(digits_archive) as archive:
        archive.extractall(folder)
    build_bundle(open_bundle(folder), ["fp32"], Silent().started)
    return folder


@pytest.fixture
def unpacked_bundle(digits_archive: Path, tmp_path: Path) -> Path:
    """Unpacked, nothing built."""
    return unpack(digits_archive, tmp_path / "a bundle")


@pytest.fixture
def built_bundle(digits_folder: Path, tmp_path: Path) -> Path:
    """Unpacked and built."""
    return Path(shutil.copytree(digits_folder, tmp_path / "built"))


Damage = Callable[[Path], object]


@pytest.fixture
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is asked to open an engine fails the test: all of it is checked before."""

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("swin_deploy.engine.open.open_engine", refuse)


def edit_by_hand(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifests.edit_record(path, edit, sealed=False)


def link(path: Path) -> None:
    """The same bytes, but elsewhere."""
    bundle = next(folder for folder in path.parents if (folder / "swin.pyz").exists())
    moved = bundle.parent / f"moved {path.name}"
    path.rename(moved)
    path.symlink_to(moved)
