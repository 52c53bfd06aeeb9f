"""A record that is replaced by another one is kept, and both say so."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent
from swin_deploy.core.errors import FileAccessError
from swin_deploy.core.files import cache_folder, sha256, write_json
from swin_deploy.core.reports import KEPT, replace_report, require_report
from swin_deploy.measure.journal import Journal


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def names(folder: Path) -> list[str]:
    """All but the locks, in which nothing stands."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_the_first_record_has_no_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    assert replace_report(path, {"images": 50}, "notes") == ""
    assert content(path) == {"images": 50}
    assert names(tmp_path) == ["evaluate.json"]


def test_a_record_of_something_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    replace_report(path, {"images": 50, "identity": {"a": 1}}, "notes")
    record = {"images": 10, "identity": {"a": 2}, "notes": ["x"]}
    said = replace_report(path, record, "notes")
    assert said.endswith("are kept, the newest last: evaluate.1.json")
    assert content(path) == record
    assert record["notes"] == ["x", said]
    assert content(tmp_path / "evaluate.1.json")["images"] == 50


def test_a_record_of_the_same_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    for number in (1, 2):
        assert replace_report(path, {"n": number, "identity": {"a": 1}}, "notes") == ""
    assert names(tmp_path) == ["sensitivity.json"]
    assert content(path)["n"] == 2


@pytest.mark.parametrize("name", ["bench.json", "a report", "a[1]*.json"])
def test_a_bounded_number_is_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.with_stem(f"{path.stem}.x").touch()
    said = ""
    for number in range(KEPT + 4):
        said = replace_report(path, {"n": number}, "warnings")
    kept = [path.with_stem(f"{path.stem}.{number}") for number in range(4, KEPT + 4)]
    assert set(names(tmp_path)) == {
        path.name,
        *(k.name for k in kept),
        f"{path.stem}.x{path.suffix}",
    }
    assert [content(k)["n"] for k in kept] == list(range(3, KEPT + 3))
    assert said.endswith(", ".join(k.name for k in kept))


def test_what_others_called_so_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    (tmp_path / "evaluate.224.json").write_text("mine")
    (tmp_path / "evaluate.3.json").write_text("mine")
    (tmp_path / "evaluate.7.json").mkdir()
    for number in range(KEPT + 4):
        replace_report(path, {"n": number}, "notes")
    assert (tmp_path / "evaluate.224.json").read_text() == "mine"
    assert (tmp_path / "evaluate.3.json").read_text() == "mine"
    kept = {number: content(tmp_path / f"evaluate.{number}.json")["n"] for number in (5, 6, 8, 9)}
    assert kept == {5: 3, 6: 4, 8: 5, 9: 6}
    assert list(content(path)["kept"]) == [f"evaluate.{number}.json" for number in (5, 6, 8, 9, 10)]


def test_one_that_was_written_over_by_hand_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    for number in range(2):
        replace_report(path, {"n": number}, "notes")
    (tmp_path / "evaluate.1.json").write_text("mine")
    for number in range(KEPT + 1):
        replace_report(path, {"n": number}, "notes")
    assert (tmp_path / "evaluate.1.json").read_text() == "mine"
    assert not (tmp_path / "evaluate.2.json").exists()


@pytest.mark.parametrize(
    "name", ["../mine.1.json", "mine.json", "evaluate.01.json", "evaluate.json"]
)
def test_a_report_has_nothing_removed_that_is_not_called_as_one_that_is_kept(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path, mine = folder / "evaluate.json", folder / name
    mine.write_text("{}")
    write_json(path, {"kept": {name: sha256(mine)}})
    for number in range(KEPT + 2):
        replace_report(path, {"n": number}, "notes")
    assert mine.exists()


def test_what_a_report_kept_is_still_known_after_one_of_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    for identity in (1, 2, 2):
        replace_report(path, {"identity": identity}, "notes")
    assert list(content(path)["kept"]) == ["sensitivity.1.json"]


def test_what_cannot_be_read_is_kept_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text('{"half": ')
    assert "bench.1.json" in replace_report(path, {"n": 1}, "warnings")
    assert (tmp_path / "bench.1.json").read_text() == '{"half": '


def test_two_that_finish_together_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "bench.json", shutil.copyfile

    def copy_slowly(source: Path, final: Path) -> None:
        time.sleep(0.05)
        copy(source, final)

    monkeypatch.setattr(shutil, "copyfile", copy_slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: replace_report(path, {"n": n}, "warnings"), range(4)))
    found = [content(path)["n"], *(content(tmp_path / name)["n"] for name in content(path)["kept"])]
    assert sorted(found) == [0, 1, 2, 3]


OTHERS = {
    "a table": "image,class\n1,2\n",
    "a web app": '{"name": "a web page", "icons": []}',
    "a manifest": '{"tool": {"name": "swin-deploy"}}',
    "another report": '{"kind": "evaluate", "checks": [], "bisections": []}',
    "nothing": "",
}


@pytest.mark.parametrize("other", OTHERS)
def test_no_report_takes_the_place_of_something_else(tmp_path: Path, other: str) -> None:
    path = tmp_path / "x.json"
    require_report(path, "verify", ("checks", "bisections"))
    path.write_text(OTHERS[other])
    with pytest.raises(FileAccessError, match="is no report of this command"):
        require_report(path, "verify", ("checks", "bisections"))
    for ours in ({"kind": "verify"}, {"checks": [], "bisections": [], "schema_version": 2}):
        write_json(path, ours)
        require_report(path, "verify", ("checks", "bisections"))
    with pytest.raises(FileAccessError):
        require_report(path, "scaling")


def test_a_folder_and_a_link_to_nothing_are_no_reports(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "link", "pipe"):
        with pytest.raises(FileAccessError, match="is no report of this command"):
            require_report(tmp_path / name, "verify")


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
