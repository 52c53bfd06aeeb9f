"""``scripts/pack-wheels``: pieces that make the same files again, or an error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

SIZES = {"large-1.whl": 2500, "exact-1.whl": 1000, "twice-1.whl": 2000, "small-1.whl": 10}


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "scripts" / "pack-wheels"
    spec = spec_from_loader("pack_wheels", SourceFileLoader("pack_wheels", str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, bytes]:
    content = random.Random(0)
    made = {name: content.randbytes(size) for name, size in SIZES.items()}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_pieces_make_the_same_files(
    script: Any, wheels: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.split(tmp_path, 1000)
    assert names(tmp_path) == {
        *("large-1.whl.part-00", "large-1.whl.part-01", "large-1.whl.part-02"),
        *("twice-1.whl.part-00", "twice-1.whl.part-01", "exact-1.whl", "small-1.whl"),
        "wheels.json",
    }
    assert max(path.stat().st_size for path in tmp_path.glob("*.whl*")) == 1000
    assert "4 wheels in 7 files" in capsys.readouterr().out
    script.main(["--join", str(tmp_path)])
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.whl")} == wheels
    assert names(tmp_path) == {*SIZES, "wheels.json"}
    script.join(tmp_path)  # again, with nothing to do


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = path.with_name("large-1.whl.part-00")
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (change, "large-1.whl.part-01", r"part-01 is damaged"),
        (Path.unlink, "large-1.whl.part-01", r"part-01 is missing"),
        (swap, "large-1.whl.part-01", r"part-00 is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "large-1.whl.part-02", "damaged"),
        (change, "small-1.whl", r"small-1\.whl is damaged"),
        (Path.unlink, "small-1.whl", r"small-1\.whl is missing"),
    ],
)
def test_a_damaged_or_missing_piece_is_an_error(
    script: Any,
    wheels: dict[str, bytes],
    tmp_path: Path,
    damage: Callable[[Path], object],
    name: str,
    message: str,
) -> None:
    script.split(tmp_path, 1000)
    damage(tmp_path / name)
    with pytest.raises(SystemExit, match=message):
        script.main(["--join", str(tmp_path)])
    if name.startswith("large"):
        assert not (tmp_path / "large-1.whl").exists()
    assert not [found for found in names(tmp_path) if found.startswith(".")]


def edit(folder: Path, change_entry: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "wheels.json"
    files = json.loads(path.read_text())
    change_entry(files)
    path.write_text(json.dumps(files))


def test_a_manifest_that_contradicts_itself_is_an_error(
    script: Any, wheels: dict[str, bytes], tmp_path: Path
) -> None:
    script.split(tmp_path, 1000)
    edit(tmp_path, lambda files: files["large-1.whl"]["pieces"].reverse())
    with pytest.raises(ValueError, match="do not make it"):
        script.join(tmp_path)


@pytest.mark.parametrize("name", ["../x.whl", "a/b.whl", "..", ""])
def test_a_manifest_that_leads_elsewhere_is_an_error(
    script: Any, wheels: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    script.split(tmp_path, 1000)
    edit(tmp_path, lambda files: files["large-1.whl"]["pieces"][0].update(name=name))
    with pytest.raises(ValueError, match="not a file in its folder"):
        script.join(tmp_path)


def test_no_wheels_no_manifest(script: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no wheels"):
        script.split(tmp_path, 1000)
    with pytest.raises(SystemExit, match=r"wheels\.json"):
        script.main(["--join", str(tmp_path)])


def test_pip_is_asked_for_wheels_alone(
    script: Any, wheels: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(script.subprocess, "run", lambda command, check: asked.append(command))
    script.main(["--requirement", "numpy", "--piece-mb", "0.001", "--pip=--no-deps", str(tmp_path)])
    with pytest.raises(SystemExit, match="has pieces already"):
        script.main([str(tmp_path)])
    script.main(["--join", str(tmp_path)])
    script.main([str(tmp_path)])
    assert asked[0][-2:] == ["--no-deps", "numpy"]
    assert all(command[1:4] == ["-m", "pip", "wheel"] for command in asked)
    assert asked[1][-len(script.REQUIREMENTS) :] == list(script.REQUIREMENTS)
    assert len(asked) == 2
    assert (tmp_path / "large-1.whl").exists()  # smaller than 60 MB
