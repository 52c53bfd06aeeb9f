"""Publication in one step: at every moment, for every reader and after a kill, a whole version."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import small_runs
from manifests import edit_manifest, edit_record, put, tree, tune
from small_runs import FILES, fill, make_header, make_run, read_text
from swin_deploy.core import files
from swin_deploy.core import own_files as plain_files
from swin_deploy.core.errors import FileAccessError
from swin_deploy.core.files import (
    Recorded,
    atomic_path,
    write_json,
)
from swin_deploy.core.own_files import sweep
from swin_deploy.pipeline.qat.folder import FILES as TUNED
from swin_deploy.pipeline.qat.folder import REPORT, QatFolder, open_folder
from swin_deploy.run import versions
from swin_deploy.run.details import MANIFEST, STAGING
from swin_deploy.run.finished import find_run, require_run
from swin_deploy.run.folder import RunFolder, open_run
from swin_deploy.run.manifest import SCHEMA_VERSION, read_stages
from watch_publications import watch_publications


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty folder on one of the file systems that runs lie on."""
    kind = request.param
    if kind == "disk":
        yield tmp_path
        return
    mounts = [("tmpfs", [])]
    if kind == "overlayfs":
        parts = (tmp_path / "tmpfs" / name for name in ("lower", "upper", "work"))
        options = ",".join(f"{part.name}dir={part}" for part in parts)
        mounts.append(("overlay", ["-o", options]))
    with ExitStack() as undo:
        for name, options in mounts:
            target = tmp_path / name
            target.mkdir()
            command = ["mount", "-t", name, *options, name, str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
            undo.callback(subprocess.run, ["umount", str(target)], check=True)
            if name == "tmpfs":
                for part in ("lower", "upper", "work"):
                    (target / part).mkdir()
        yield target / "runs" if kind == "tmpfs" else target


def rerun_with_another_text(killed: Path, published: str | None) -> None:
    """Run in a copy, and die before its commit as well: what was published is whole throughout."""
    copy = killed.with_name("copy")  # in which two names of one file are that, too
    subprocess.run(["cp", "-a", str(killed), str(copy)], check=True)

    def whole() -> bool:
        return find_run(copy) is None if published is None else read_text(copy) == published

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # which takes most of the time
        with open_run(copy) as run:
            assert whole()
            fill(run, "other")
            assert whole()
            publish_without_power(run, "other", "write_json")
            assert whole()
        make_run(copy, "other")
    assert read_text(copy) == "other"
    shutil.rmtree(copy)


def no_power(*_: object) -> None:
    raise OSError("no power")


def publish_without_power(folder: RunFolder | QatFolder, text: str, step: str) -> None:
    """Publish, and die at the commit, or once it is done."""
    if isinstance(folder, RunFolder):
        publish: Callable[[], object] = partial(folder.publish, make_header((text,)))
    else:
        publish = partial(folder.publish, text, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, step, no_power)
        with pytest.raises(OSError, match="no power"):
            publish()


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("place", "first"),
    [("disk", False), ("disk", True), ("tmpfs", False), ("overlayfs", False)],
    indirect=["place"],
)
def test_killed_at_any_call_the_old_run_or_the_new_one_is_whole(place: Path, first: bool) -> None:
    template, root = place / "template", place / "killed"
    root.mkdir(parents=True)
    template.mkdir()
    if not first:
        make_run(template, "older")  # whose replaced files are still kept
        make_run(template, "old")
    subprocess.run(
        [sys.executable, str(Path(small_runs.__file__)), str(root), str(template), "new"],
        check=True,
        timeout=300,
    )
    whole = tree(root / "whole")
    killed = sorted(root.glob("killed-*"), key=lambda path: int(path.name.partition("-")[2]))
    states = []
    for folder in killed:
        staged = read_stages(folder / ".staging" / MANIFEST).stages
        found = find_run(folder)
        states.append(None if found is None else read_text(folder))
        rerun_with_another_text(folder, states[-1])
        copy = folder.with_name("copy")  # by whoever knows nothing of hidden folders
        if states[-1] == "old":
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".*"))
            assert read_text(copy) == "old"
            shutil.rmtree(copy)
        ran = make_run(folder, "new")
        assert not set(ran) & set(staged)  # finished stages are not done again
        assert states[-1] != "new" or not ran
        assert tree(folder) == whole
    before = None if first else "old"
    assert set(states) == {before, "new"}
    assert states == sorted(states, key=lambda state: state == "new")  # one step
    assert len(states) > 40


@pytest.mark.fault(39)
@pytest.mark.parametrize("dies", [True, False])
def test_what_waits_for_a_record_of_another_version_is_kept(tmp_path: Path, dies: bool) -> None:
    """Another version of the tool opens a run whose names do not yet follow its manifest."""
    make_run(tmp_path, "old")
    with open_run(tmp_path) as run:
        fill(run, "new")
        publish_without_power(run, "new", "settle")
    edit_manifest(tmp_path, lambda manifest: manifest.update(schema_version=9))
    with open_run(tmp_path) as run:
        fill(run, "other")
        if dies:
            publish_without_power(run, "other", "write_json")
    edit_manifest(tmp_path, lambda manifest: manifest.update(schema_version=SCHEMA_VERSION))
    assert read_text(tmp_path) == "new"
    make_run(tmp_path, "newer")
    assert read_text(tmp_path) == "newer"


def test_what_waits_for_a_report_of_another_version_is_kept(tmp_path: Path) -> None:
    with open_folder(tmp_path) as folder:
        tune(folder, "new")
        publish_without_power(folder, "new", "settle")
    report = (tmp_path / REPORT).read_bytes()
    edit_record(tmp_path / REPORT, put(9, "schema_version"))
    with open_folder(tmp_path):
        pass
    (tmp_path / REPORT).write_bytes(report)
    with open_folder(tmp_path) as folder:
        assert folder.published("new") is not None


@pytest.mark.fault(39)
def test_all_of_it_is_on_the_disk_before_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may keep what was renamed last and lose what was not synchronised before."""
    make_run(tmp_path, "old")
    on_disk: set[int] = set()
    fsync, replace = os.fsync, os.replace
    missing: list[str] = []

    def note(handle: int) -> None:
        on_disk.add(os.fstat(handle).st_ino)
        fsync(handle)

    def look(source: Path, final: Path, **more: Any) -> None:
        if Path(final) == tmp_path / MANIFEST:
            kept = [tmp_path, *(tmp_path / ".versions").rglob("*"), tmp_path / ".versions", source]
            missing.extend(str(path) for path in kept if os.stat(path).st_ino not in on_disk)
            assert len(kept) > 8
            on_disk.add(-1)
        replace(source, final, **more)

    with open_run(tmp_path) as run:
        fill(run, "new")
        monkeypatch.setattr(os, "fsync", note)
        monkeypatch.setattr(os, "replace", look)
        on_disk |= {os.stat(tmp_path / name).st_ino for name in FILES}  # since they were published
        on_disk |= {path.stat().st_ino for path in run.staging.rglob("*.*")}  # by ``record``
        run.publish(make_header(("new",)))
    assert -1 in on_disk
    assert missing == []


@pytest.mark.fault(39)
def test_moves_are_on_the_disk_before_where_they_came_from_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "old")
    synced: list[Path] = []
    seen: list[set[Path]] = []
    sync, remove = versions.sync, versions.remove_own_folder

    def note(path: Path) -> None:
        synced.append(path)
        sync(path)

    def look(path: Path) -> None:
        seen.append(set(synced))
        remove(path)

    def commit(record: Path, content: dict[str, Any]) -> None:
        write_json(record, content)
        synced.clear()

    monkeypatch.setattr(versions, "sync", note)
    monkeypatch.setattr(versions, "remove_own_folder", look)
    monkeypatch.setattr(versions, "write_json", commit)
    make_run(tmp_path, "new")
    assert seen[-1] >= {tmp_path, tmp_path / "engines"}


@pytest.mark.parametrize("name", [".", "engines", STAGING])
def test_what_a_killed_write_left_goes_wherever_it_lies(tmp_path: Path, name: str) -> None:
    left = tmp_path / name / ".model.onnx.12345678.unfinished"
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("half")
    make_run(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("problem", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV])
def test_where_files_have_no_second_names_they_are_copied(
    problem: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(problem, os.strerror(problem))

    synced: list[Path] = []
    monkeypatch.setattr("os.link", link)
    monkeypatch.setattr("swin_deploy.run.versions.sync", synced.append)
    make_run(tmp_path)
    make_run(tmp_path, "two")
    assert read_text(tmp_path) == "two"
    assert {tmp_path / versions.NEXT / name for name in FILES} <= set(synced)


def test_any_other_failure_of_a_link_ends_the_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path)

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", link)
        with pytest.raises(OSError, match="no space"):
            make_run(tmp_path, "two")
    assert read_text(tmp_path) == "one"


def test_a_folder_with_the_name_of_a_file_stays(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.onnx").mkdir()
    (tmp_path / "model.onnx" / "mine").write_text("mine")
    with pytest.raises(FileAccessError, match=r"model\.onnx is a folder"):
        make_run(tmp_path, "two")
    assert (tmp_path / "model.onnx" / "mine").read_text() == "mine"


@pytest.mark.parametrize(("kept_s", "texts"), [(-1.0, {"two"}), (3600.0, {"one", "two"})])
def test_what_was_replaced_stays_as_long_as_a_reader_may_be_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_s: float, texts: set[str]
) -> None:
    monkeypatch.setattr(versions, "KEPT_S", kept_s)
    for text in ("one", "two", "three"):
        make_run(tmp_path, text)
    left = [path.read_text() for path in (tmp_path / versions.PREVIOUS).iterdir()]
    assert {text.split()[0] for text in left} == texts
    assert read_text(tmp_path) == "three"


def test_a_reader_of_the_old_manifest_keeps_the_old_bytes(tmp_path: Path) -> None:
    make_run(tmp_path, "old")
    held = require_run(tmp_path)
    make_run(tmp_path, "new")
    assert held.file("model.onnx").read() == b"old model.onnx"
    assert held.checked("engines/cpu-fp32.onnx").read_bytes() == b"old engines/cpu-fp32.onnx"
    assert (tmp_path / "model.onnx").read_bytes() == b"new model.onnx"  # the contract


@pytest.mark.parametrize("read", [lambda f: f.read(), lambda f: f.locate().read_bytes()])
def test_a_file_that_moves_while_it_is_looked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Recorded], bytes]
) -> None:
    make_run(tmp_path, "old")
    held = require_run(tmp_path).file("model.onnx")
    content = held.path.read_bytes()
    waiting = held.also[0]
    waiting.parent.mkdir(parents=True, exist_ok=True)
    held.path.rename(waiting)
    held.path.write_bytes(b"another")
    opened = plain_files.open_plain

    def arrives(path: Path) -> Any:
        if path == waiting and path.exists():
            waiting.replace(held.path)  # between a look at it and its opening
        return opened(path)

    for module in (files, plain_files):
        monkeypatch.setattr(module, "open_plain", arrives)
    assert read(held) == content


@pytest.mark.fault(39)
def test_readers_never_see_half_of_a_publication(tmp_path: Path) -> None:
    """``watch_publications.py`` does it for as long as one likes, with more of them."""
    seen = watch_publications(tmp_path / "run", readers=2, seconds=3.0)
    assert seen.errors == []
    assert seen.reads > 50
    assert seen.publications > 5


def test_what_killed_writes_left_is_cleared_and_what_is_under_way_stays(tmp_path: Path) -> None:
    make_run(tmp_path)
    dead = tmp_path / ".manifest.json.12345678.unfinished"
    dead.mkdir()
    (dead / "manifest.json").write_text("{")
    with atomic_path(tmp_path / "bench.json") as scratch:
        scratch.write_text("{}")
        make_run(tmp_path, "new")
        assert scratch.exists()
    assert not dead.exists()
    assert (tmp_path / "bench.json").read_text() == "{}"
    assert not list(tmp_path.glob(".*.unfinished"))


@pytest.mark.parametrize(("module", "step"), [(os, "open"), (fcntl, "flock")])
def test_a_write_that_ends_while_it_is_looked_at_leaves_nothing_to_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    left = tmp_path / ".bench.json.12345678.unfinished"
    left.mkdir()
    do = getattr(module, step)

    def end(*arguments: Any, **more: Any) -> Any:
        if left.is_dir():
            left.rmdir()
        return do(*arguments, **more)

    monkeypatch.setattr(module, step, end)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "expected"), [("write_json", "old"), ("settle", "new")])
def test_a_fine_tuning_is_published_in_one_step(tmp_path: Path, step: str, expected: str) -> None:
    with open_folder(tmp_path) as folder:
        tune(folder, "old")
        folder.publish("old", {})
        tune(folder, "new")
        publish_without_power(folder, "new", step)
        folder.tidy = lambda: None  # type: ignore[method-assign]  # it was killed
    with open_folder(tmp_path) as folder:
        assert folder.published(expected) is not None
        for name in TUNED:
            folder.scratch(name).write_text("unfinished")
        assert folder.published(expected) is not None
    assert all((tmp_path / name).read_text() == f"{expected} {name}" for name in TUNED)
