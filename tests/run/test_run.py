"""Files are whole or not there; a run has one writer, and is published in one step."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
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
from manifests import edit_manifest, edit_record
from small_runs import EXPORT, FILES, STAGES, fill, make_header, make_run, read_text
from swin_deploy.cli import main as cli
from swin_deploy.core import files
from swin_deploy.core import own_files as plain_files
from swin_deploy.core.errors import BusyError, FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import (
    Recorded,
    atomic_path,
    digest,
    read_json,
    require_writable,
    write_json,
)
from swin_deploy.core.own_files import sweep
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.engine.timing_cache import write_cache
from swin_deploy.measure.evaluate.shards import open_journal
from swin_deploy.measure.journal import journal_path
from swin_deploy.pipeline.qat.folder import FILES as TUNED
from swin_deploy.pipeline.qat.folder import REPORT, QatFolder, open_folder
from swin_deploy.run import versions
from swin_deploy.run.details import LOCK, MANIFEST, STAGING
from swin_deploy.run.finished import find_run, require_run
from swin_deploy.run.folder import PARTIAL, RunFolder, lock_folder, open_run
from swin_deploy.run.manifest import read_stages, stage_key
from watch_publications import watch_publications


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "x.bin"
    final.write_text("old")

    def write_half() -> None:
        with atomic_path(final) as scratch:
            scratch.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert final.read_text() == "old"
    with atomic_path(final) as scratch:
        scratch.write_text("new")
        assert final.read_text() == "old"
    assert final.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})


def test_json_that_is_damaged_reads_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert read_json(path) is None
    for text in ("", "{", "[1]", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert read_json(path) is None
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}


@pytest.mark.fault(42)
def test_a_folder_that_is_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="cannot write in"):
        require_writable(tmp_path / "file")
    with pytest.raises(FileAccessError, match="cannot write in"):
        require_writable(tmp_path / "file" / "below")


@pytest.mark.fault(41)
def test_a_second_writer_learns_who_holds_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = (
        "import sys, time; from pathlib import Path\n"
        "from swin_deploy.run.folder import lock_folder\n"
        "with lock_folder(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        message = rf"in use by process {process.pid} on \S+ since 20\d\d-"
        with monkeypatch.context() as patch:
            patch.setattr("time.sleep", lambda seconds: pytest.fail("nobody asked to wait"))
            with pytest.raises(BusyError, match=message), lock_folder(tmp_path):
                pass
        with pytest.raises(BusyError), lock_folder(tmp_path, wait_s=0.2):
            pass
        process.kill()
        process.wait()
    with lock_folder(tmp_path):  # a dead holder holds nothing
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_published_run_is_found_again_and_checked(tmp_path: Path) -> None:
    make_run(tmp_path)
    run = find_run(tmp_path / "engines" / "cpu-fp32.onnx")
    assert run is not None
    assert run.path == tmp_path
    assert run.checked("model.onnx").read_text() == "one model.onnx"
    assert {path.name for path in tmp_path.iterdir()} == {
        *(name.partition("/")[0] for name in FILES),
        *("manifest.json", LOCK),
    }


@pytest.mark.fault(17, 33)
def test_a_changed_missing_or_unlisted_file_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    run, graph = require_run(tmp_path), tmp_path / "model.onnx"
    (tmp_path / "model.fp16.onnx").write_text("two")
    with pytest.raises(UnsafeError, match="is not listed"):
        run.checked("model.fp16.onnx")
    graph.write_text("One model.onnx")
    with pytest.raises(UnsafeError, match="was changed: sha256"):
        run.checked("model.onnx")
    graph.unlink()
    with pytest.raises(InputError, match="missing"):
        run.checked("model.onnx")


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        require_run(tmp_path)


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a web page", "icons": []}', "cannot be read as a manifest"),
        ("junk", "is not JSON"),
        ("{", "is not JSON"),
    ],
)
def test_a_file_of_that_name_that_is_none_of_ours(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    assert find_run(tmp_path / "model.onnx") is None  # an ONNX file may lie beside one
    with pytest.raises(InputError, match=message):
        require_run(tmp_path)


@pytest.mark.fault(44)
def test_a_manifest_of_an_earlier_version_is_refused_by_name(tmp_path: Path) -> None:
    make_run(tmp_path)
    edit_manifest(tmp_path, lambda manifest: manifest.update(schema_version=1))
    with pytest.raises(InputError, match=r"version 1, written by an earlier .* export again"):
        require_run(tmp_path)
    with pytest.raises(InputError, match="schema version 1"):
        find_run(tmp_path / "engines" / "cpu-fp32.onnx")
    assert make_run(tmp_path) == list(STAGES)  # and an export takes its place


def test_a_stage_is_current_only_with_its_key_and_its_bytes(tmp_path: Path) -> None:
    make_run(tmp_path)
    with open_run(tmp_path) as run:
        assert run.find("simplify", digest("other")) is None
        assert run.find("interface", digest("one")) is None
        assert run.find("simplify", digest("one")) is not None
    (tmp_path / "model.onnx").write_text("0ne")
    assert make_run(tmp_path) == ["simplify"]
    assert read_text(tmp_path) == "one"


def test_details_that_their_reader_would_refuse_are_not_written(tmp_path: Path) -> None:
    with open_run(tmp_path) as run, pytest.raises(InputError, match=r"nodes is .missing"):
        run.record("export", "key", (), {"parameters": 1, "form": None}, 0.0)


@pytest.mark.fault(39)
def test_a_killed_run_finds_its_finished_stages_and_publishes_none(tmp_path: Path) -> None:
    make_run(tmp_path, "old")
    before = tree(tmp_path)
    with open_run(tmp_path) as run:
        assert fill(run, "new") == [stage for stage in STAGES if stage != "export"]
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith(".staging")} == before
    assert make_run(tmp_path, "new") == []
    assert read_text(tmp_path) == "new"


def test_publishing_names_what_an_earlier_run_left(tmp_path: Path) -> None:
    make_run(tmp_path)
    with open_run(tmp_path) as run:
        run.scratch("model.raw.onnx").write_text("b")
        run.record("export", "key", ("model.raw.onnx",), EXPORT, 0.0)
        assert run.publish(make_header()) == sorted(set(FILES) - {"model.raw.onnx"})
    assert (tmp_path / "model.onnx").is_file()  # nothing good is deleted


def test_a_key_depends_on_everything_that_outputs_depend_on() -> None:
    base = stage_key("a", {"x": 1}, {"in": "00"}, ("numpy",))
    assert base == stage_key("a", {"x": 1}, {"in": "00"}, ("numpy",))
    others = [
        stage_key("b", {"x": 1}, {"in": "00"}, ("numpy",)),
        stage_key("a", {"x": 2}, {"in": "00"}, ("numpy",)),
        stage_key("a", {"x": 1}, {"in": "01"}, ("numpy",)),
        stage_key("a", {"x": 1}, {"in": "00"}, ("onnx",)),
    ]
    assert len({base, *others}) == 5


def tree(folder: Path) -> dict[str, bytes | str]:
    """All that lies in a folder, links as what they say; not the lock, which nobody reads."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink()) and path.name != LOCK
    }


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
    edit_manifest(tmp_path, lambda manifest: manifest.update(schema_version=3))
    with open_run(tmp_path) as run:
        fill(run, "other")
        if dies:
            publish_without_power(run, "other", "write_json")
    edit_manifest(tmp_path, lambda manifest: manifest.update(schema_version=2))
    assert read_text(tmp_path) == "new"
    make_run(tmp_path, "newer")
    assert read_text(tmp_path) == "newer"


def tune(folder: QatFolder, text: str) -> None:
    for name in TUNED:
        folder.scratch(name).write_text(f"{text} {name}")


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


def test_a_second_name_of_another_file_is_no_place_to_write(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with open_run(tmp_path / "run") as run:
        os.link(mine, run.scratch("model.onnx"))
        with pytest.raises(UnsafeError, match="remove it"):
            run.scratch("model.onnx")
    assert mine.read_text() == "mine"


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


def test_a_run_says_what_its_manifest_does(tmp_path: Path) -> None:
    make_run(tmp_path)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["weights"] = {"source": "random", "seed": 3}
        manifest["interface"] = {"io": "uint8", "softmax": True, "topk": 2}
        manifest["stages"]["verify"]["details"]["fp32_extreme_floors_db"] = {"logits": 90.0}
        half = {"weights": 1, "largest": 2.0, "flushed": 0.0, "fp32_nodes": {"a": 3e4, "b": None}}
        manifest["stages"]["fp16"] = {"key": "", "outputs": {}, "details": half, "seconds": 0.0}

    edit_manifest(tmp_path, edit)
    run = require_run(tmp_path)
    assert (run.random, run.seed) == (True, 3)
    assert run.fp32_nodes("fp16") == ("a", "b")
    assert run.fp32_nodes("bf16") == run.fp32_nodes("fp32") == ()
    steps = run.preprocessing
    pixels = ImageInput("uint8", steps.mean, steps.std)
    assert run.images == run.image_input("fp32") == run.input_of("model.onnx") == pixels
    assert run.input_of("model.raw.onnx") == FP32_INPUT
    assert run.output_names == ("scores", "classes")
    assert (run.floors_db, run.extreme_floors_db) == ({"logits": 110.0}, {"logits": 90.0})
    assert (run.labels, run.weights, run.plain_graph) == ((), None, "model.onnx")
    assert (run.variant.config, run.variant.preprocessing) == (run.config, steps)
    assert run.has("model.onnx")
    (run.path / "model.onnx").unlink()
    assert not run.has("model.onnx")


def test_an_engine_for_elsewhere_is_checked_before_anything_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path)
    monkeypatch.setattr("swin_deploy.run.finished.Engine.why_not_here", "it is for a Jetson")
    assert require_run(tmp_path).open_engine("cpu-fp32") == "it is for a Jetson"
    (tmp_path / "engines" / "cpu-fp32.onnx").write_text("another")
    with pytest.raises(UnsafeError, match=r"cpu-fp32\.onnx"):
        require_run(tmp_path).open_engine("cpu-fp32")


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


@pytest.mark.parametrize("kept", [False, True], ids=["nothing is kept", "a part is kept"])
def test_what_an_unfinished_stage_left_is_cleared(tmp_path: Path, kept: bool) -> None:
    part = tmp_path / STAGING / PARTIAL / "half"

    def fail() -> None:
        with open_run(tmp_path) as run:
            run.scratch("model.onnx").write_text("half")
            if kept:
                part.parent.mkdir()
                part.write_text("part")
            raise InputError("a stage fails")

    with pytest.raises(InputError, match="a stage"):
        fail()
    assert part.is_file() == kept
    assert (tmp_path / STAGING).exists() == kept
    assert not (tmp_path / STAGING / "model.onnx").exists()


def test_a_copy_of_a_run_works_wherever_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, "old")
    make_run(run, "new")
    for index, command in enumerate((["cp", "-r"], ["cp", "-a"], ["cp", "-rL"])):
        copy = tmp_path / str(index)
        subprocess.run([*command, str(run), str(copy)], check=True)
        assert read_text(copy) == "new"
        make_run(copy, "newer")
        assert read_text(copy) == "newer"
    assert read_text(run) == "new"


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


Edit = Callable[[dict[str, Any]], Any]


def put(value: Any, *keys: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return edit


def drop(*keys: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return edit


ENGINE_STAGE = ("stages", "engine:cpu-fp32")
KEYS = (
    *("family", "variant", "preprocessing", "parameters", "weights", "batch", "outputs"),
    *("interface", "photos", "notes", "stages"),
)
DAMAGE: dict[str, tuple[Edit, str]] = {
    **{f"no {key}": (drop(key), f'{key} is "missing"') for key in KEYS},
    **{f"{key} 7": (put(7, key), f"{key} is 7, not") for key in KEYS if key != "parameters"},
    "a batch of x": (put({"x": 1}, "batch"), "batch.x is 1"),
    "an empty batch": (put({"low": 4, "high": 1}, "batch"), "batch 4:1 is not a range"),
    "no mean": (drop("preprocessing", "mean"), "mean has 3 values"),
    "another family": (put("vit", "family"), "family = 'vit'"),
    "weights of nobody": (put({}, "weights"), "weights.source is"),
    "a target of another version": (
        put("rtx-60", *ENGINE_STAGE, "details", "target"),
        "target = 'rtx-60' is none of cpu",
    ),
    "no details": (put({}, *ENGINE_STAGE, "details"), "details.target is"),
    "no outputs": (put({}, *ENGINE_STAGE, "outputs"), "lists nothing"),
    "an unknown stage": (put({"key": "", "outputs": {}}, "stages", "x"), "stages.x is no stage"),
    "a second export": (
        lambda m: m["stages"].update({"export:2": m["stages"]["export"]}),
        "no stage",
    ),
    "an unknown key": (put(1, "more"), "more is 1, not a key"),
    "no gate": (drop("stages", "verify"), "no stage verify"),
    **{
        f"{key} x of the network": (put("x", "variant", key), f'variant.{key} is "x", not')
        for key in ("embed_dim", "patch_size", "window_size", "num_heads", "depths")
    },
    "a network called 5": (put(5, "variant", "name"), "variant.name is 5, not a string"),
    "an unknown key of the network": (put(1, "variant", "depth"), "variant.depth is 1, not a key"),
    "fewer than no classes": (put(-1, "variant", "num_classes"), "num_classes = -1 must not be"),
    "logits without a head": (put(0, "variant", "num_classes"), "num_classes = 0: it has no head"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_that_does_not_fit_names_the_key_and_both_values(
    tmp_path: Path, name: str
) -> None:
    make_run(tmp_path)
    edit, message = DAMAGE[name]
    edit_manifest(tmp_path, edit)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        require_run(tmp_path)
    assert str(tmp_path / MANIFEST) in caught.value.problem
    assert "export again" in caught.value.hint


HASH = "0" * 64
LISTED: dict[str, tuple[str, str, int]] = {
    **{
        repr(name): (name, HASH, 8)
        for name in (
            *("../x", "/x", "engines/../../x", "", "a//b", "a/", ".", "a/./b", "x\0y"),
            *("manifest.json", ".lock", ".staging/x", ".versions/next/x", "engines/.x"),
        )
    },
    "a path for a hash": ("model.onnx", "../../../v/a", 3),
    "a path of that length": ("model.onnx", "../../../" + "0" * 55, 3),
    "NUL in a hash": ("model.onnx", "\0" * 64, 3),
    "no hash": ("model.onnx", "", 3),
    "capitals": ("model.onnx", "A" * 64, 3),
    "a line more": ("model.onnx", HASH + "\n", 3),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize(("name", "sha", "code"), LISTED.values(), ids=LISTED)
def test_what_a_manifest_lists_becomes_no_path_outside_the_run(
    tmp_path: Path, name: str, sha: str, code: int
) -> None:
    run, canary = tmp_path / "a" / "b" / "run", tmp_path / "v" / "a-model.onnx"
    canary.parent.mkdir()
    canary.write_text("mine")
    make_run(run, "old")
    edit_manifest(run, put(sha, "stages", "simplify", "outputs", name))
    with pytest.raises((InputError, UnsafeError)) as caught:
        require_run(run)
    assert caught.value.exit_code == code
    before = tree(tmp_path)
    make_run(run, "new")  # an export takes its place
    assert read_text(run) == "new"
    outside = {place: content for place, content in before.items() if not place.startswith("a/b/")}
    assert {p: c for p, c in tree(tmp_path).items() if not p.startswith("a/b/")} == outside


@pytest.mark.parametrize("name", ["../x", ".lock", "x\0y"])
def test_what_a_killed_run_lists_is_not_published_under_such_a_name(
    tmp_path: Path, name: str
) -> None:
    with open_run(tmp_path) as run:
        fill(run, "one")
    staged = tmp_path / ".staging" / MANIFEST
    edit_record(staged, put(HASH, "stages", "simplify", "outputs", name))
    assert read_stages(staged).stages == {}


def test_a_report_of_a_fine_tuning_that_was_edited_is_not_believed(tmp_path: Path) -> None:
    with open_folder(tmp_path) as folder:
        tune(folder, "one")
        folder.publish("one", {"losses": [0.5]})
    good = (tmp_path / REPORT).read_bytes()
    for edit, sealed in (
        (put([0.1], "losses"), False),
        (put("../../../v/a", "files", "model.onnx"), True),
        (put("\0" * 64, "files", "model.onnx"), True),
        (put(HASH, "files", "../x"), True),
        (put(1, "schema_version"), True),
    ):
        edit_record(tmp_path / REPORT, edit, sealed=sealed)
        with open_folder(tmp_path) as folder:
            assert folder.published("one") is None
        (tmp_path / REPORT).write_bytes(good)
    with open_folder(tmp_path) as folder:
        assert folder.published("one") is not None


EDITED: dict[str, Edit] = {
    "mean": put([5.0], "preprocessing", "mean"),
    "crop": put(0.5, "preprocessing", "crop"),
    "classes": put(9, "variant", "num_classes"),
    "seed": put(1, "weights", "seed"),
    "batch": put({"low": 1, "high": 8}, "batch"),
    "floors": put({"logits": 0.0}, "stages", "verify", "details", "fp32_floors_db"),
    "photos": put({"used": 1, "found": 1, "sha256": ""}, "photos"),
    "notes": put([], "notes"),
    "tool": put("9.9.9", "tool", "version"),
    "digest": put("0" * 64, "digest"),
    "no digest": drop("digest"),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", EDITED)
def test_a_manifest_that_was_edited_is_refused(tmp_path: Path, name: str) -> None:
    make_run(tmp_path)
    edit_manifest(tmp_path, EDITED[name], sealed=False)
    with pytest.raises(UnsafeError, match="was changed since it was written"):
        require_run(tmp_path)


COMMANDS = {
    "verify": ("verify", "{run}", "--out", "{out}/x.json"),
    "bench": ("bench", "--engine", "{run}"),
    "bench an engine": ("bench", "--engine", "{run}/engines/cpu-fp32.onnx"),
    "evaluate": ("evaluate", "{run}", "--data", "{out}", "--out", "{out}/x.json"),
    "sensitivity": ("sensitivity", "{run}", "--calibration", "{out}", "--out", "{out}/x.json"),
    "bundle": ("bundle", "{run}", "--target", "cpu", "--out", "{out}/x.zip"),
    "refit": ("refit", "{run}/engines/cpu-fp32.onnx", "--weights", "{run}/model.onnx"),
    "cost": ("cost", "{run}"),
    "report": ("report", "{run}", "--out", "{out}/report"),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_every_damaged_manifest(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    make_run(run)
    good = (run / MANIFEST).read_bytes()
    command = [part.format(run=run, out=tmp_path) for part in COMMANDS[name]]
    cases = [(case, edit, True, 3) for case, (edit, _) in DAMAGE.items()]
    cases += [(case, edit, False, 8) for case, edit in EDITED.items()]
    cases.append(("schema 1", put(1, "schema_version"), True, 3))
    for case, edit, sealed, code in cases:
        (run / MANIFEST).write_bytes(good)
        edit_manifest(run, edit, sealed=sealed)
        assert cli.run(command) == code, case
        assert str(run / MANIFEST) in capsys.readouterr().err, case
