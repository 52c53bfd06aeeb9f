"""No link, pipe or second name is followed where we write or delete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from manifests import tree
from small_runs import fill, make_header, make_run, read_text
from swin_deploy.core.errors import UnsafeError
from swin_deploy.engine.timing_cache import write_cache
from swin_deploy.measure.evaluate.shards import open_journal
from swin_deploy.measure.journal import journal_path
from swin_deploy.pipeline.qat.folder import open_folder
from swin_deploy.run.details import LOCK
from swin_deploy.run.folder import lock_folder, open_run


def test_a_second_name_of_another_file_is_no_place_to_write(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with open_run(tmp_path / "run") as run:
        os.link(mine, run.scratch("model.onnx"))
        with pytest.raises(UnsafeError, match="remove it"):
            run.scratch("model.onnx")
    assert mine.read_text() == "mine"


OWN = {
    ".staging": "folder",
    ".staging/engines": "folder",
    ".staging/model.onnx": "file",
    ".staging/partial": "folder",
    ".versions": "folder",
    ".versions/next": "folder",
    ".versions/previous": "folder",
    ".lock": "file",
    "engines": "folder",
}


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("there", [True, False], ids=["to something", "to nothing"])
def test_a_link_at_a_name_of_ours_is_refused(tmp_path: Path, name: str, there: bool) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine"
    make_run(run, "old")
    before = tree(run)
    kind = OWN[name]
    if there and kind == "folder":
        mine.mkdir()
        (mine / "manifest.json").write_text("mine")
        (mine / "precious.txt").write_text("mine")
        (mine / "cpu-fp32.onnx").write_text("mine")
    elif there:
        mine.write_text("mine")
    kept = tree(mine) if mine.is_dir() else mine.exists() and mine.read_bytes()
    link = run / name
    if name == "engines":
        shutil.rmtree(link)
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(mine)

    def publish() -> None:
        with open_run(run) as folder:
            fill(folder, "new")
            folder.resumable("x").write_text("unfinished")
            folder.publish(make_header(("new",)))

    with pytest.raises(UnsafeError, match="is a link"):
        publish()
    assert (tree(mine) if mine.is_dir() else mine.exists() and mine.read_bytes()) == kept
    if name != "engines":
        assert read_text(run) == "old"
        assert before.items() <= tree(run).items()
    link.unlink(missing_ok=True)  # of one in the staging area only the link was cleared
    make_run(run, "new")
    assert read_text(run) == "new"


def test_a_second_name_of_another_file_is_no_lock(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    os.link(mine, tmp_path / LOCK)
    with pytest.raises(UnsafeError, match="remove it"), lock_folder(tmp_path):
        pass
    assert mine.read_text() == "mine"


def test_a_pipe_is_no_lock_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(UnsafeError, match="remove it"), lock_folder(tmp_path):
        pass


def test_a_link_at_the_name_of_a_journal_is_refused(tmp_path: Path) -> None:
    mine, report = tmp_path / "mine", tmp_path / "evaluate.json"
    mine.write_text("mine")
    journal_path(report).symlink_to(mine)
    with (
        pytest.raises(UnsafeError, match="is a link"),
        open_journal(report, {}, print, repr),
    ):
        pass
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.lock", "a.timing"])
def test_a_link_in_a_cache_is_not_followed(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / name).symlink_to(mine)
    said = write_cache(tmp_path / "a.timing", b"timings")
    assert ("was not kept" in said) == (name == "a.lock")
    assert mine.read_text() == "mine"


def test_links_in_the_folder_of_a_fine_tuning_are_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "unfinished").mkdir(parents=True)
    (mine / "precious.txt").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".staging").symlink_to(mine)
    with pytest.raises(UnsafeError, match="is a link"), open_folder(out) as folder:
        folder.scratch("model.onnx").write_text("new")
    assert tree(mine) == {"precious.txt": b"mine"}
