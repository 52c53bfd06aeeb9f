"""A record that is replaced by another one is kept, and both say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent
from swin_deploy.files import KEPT, cache_folder, replace_record
from swin_deploy.sensitivity.journal import Journal


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_record_has_no_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    assert replace_record(path, {"images": 50}, "notes") == ""
    assert content(path) == {"images": 50}
    assert names(tmp_path) == ["evaluate.json"]


def test_a_record_of_something_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    replace_record(path, {"images": 50, "identity": {"a": 1}}, "notes")
    record = {"images": 10, "identity": {"a": 2}, "notes": ["x"]}
    said = replace_record(path, record, "notes")
    assert said.endswith("are kept, the newest last: evaluate.1.json")
    assert content(path) == record
    assert record["notes"] == ["x", said]
    assert content(tmp_path / "evaluate.1.json")["images"] == 50


def test_a_record_of_the_same_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    for number in (1, 2):
        assert replace_record(path, {"n": number, "identity": {"a": 1}}, "notes") == ""
    assert names(tmp_path) == ["sensitivity.json"]
    assert content(path)["n"] == 2


@pytest.mark.parametrize("name", ["bench.json", "a report", "a[1]*.json"])
def test_a_bounded_number_is_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.with_stem(f"{path.stem}.x").touch()
    said = ""
    for number in range(KEPT + 4):
        said = replace_record(path, {"n": number}, "warnings")
    kept = [path.with_stem(f"{path.stem}.{number}") for number in range(4, KEPT + 4)]
    assert set(names(tmp_path)) == {
        path.name,
        *(k.name for k in kept),
        f"{path.stem}.x{path.suffix}",
    }
    assert [content(k)["n"] for k in kept] == list(range(3, KEPT + 3))
    assert said.endswith(", ".join(k.name for k in kept))


def test_a_journal_says_it_to_whoever_listens(tmp_path: Path) -> None:
    listener, path = Silent(), tmp_path / "sensitivity.json"
    for number in (1, 2):
        journal = Journal(path, {"graph": number}, listener.note)
        report: dict[str, Any] = {"notes": []}
        journal.finish(report)
    assert "sensitivity.1.json" in listener.notes[-1]
    assert report["notes"] == content(path)["notes"] == [listener.notes[-1]]


@pytest.mark.parametrize(("value", "used"), [("/c", True), ("c", False), ("", False)])
def test_a_relative_cache_folder_is_ignored(
    value: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    root = Path("/c") if used else Path.home() / ".cache"
    assert cache_folder("rtx") == root / "swin-deploy" / "rtx"
