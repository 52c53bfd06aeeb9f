"""Files are whole or not there; a run has one writer; what is published matches its manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swin_deploy.artifacts.lock import run_lock
from swin_deploy.artifacts.manifest import MANIFEST, read_manifest, stage_key
from swin_deploy.artifacts.reader import find_run, require_run
from swin_deploy.artifacts.run import open_run
from swin_deploy.errors import BusyError, FileAccessError, InputError, UnsafeError
from swin_deploy.files import atomic_path, digest, read_json, require_writable, sha256, write_json


def make_run(folder: Path, text: str = "one") -> None:
    with open_run(folder) as run:
        run.scratch("engines/a.plan").write_text(text)
        run.record("engine", digest(text), ("engines/a.plan",), {"n": 1}, 0.5)
        run.publish({"batch": {"low": 1, "high": 1}})


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
def test_a_second_writer_learns_who_holds_the_run(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path\n"
        "from swin_deploy.artifacts.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = pytest.raises(BusyError, match=f"in use by process {process.pid} on")
        with refused, run_lock(tmp_path):
            pass
        process.kill()
        process.wait()
    with run_lock(tmp_path):  # a dead holder holds nothing
        holder_file = json.loads((tmp_path / ".lock.holder").read_text())
        assert holder_file["pid"] == os.getpid()
    assert not (tmp_path / ".lock.holder").exists()


def test_a_published_run_is_found_again_and_checked(tmp_path: Path) -> None:
    make_run(tmp_path)
    run = find_run(tmp_path / "engines" / "a.plan")
    assert run is not None
    assert run.path == tmp_path
    assert run.checked("engines/a.plan").read_text() == "one"
    assert not (tmp_path / ".staging").exists()


@pytest.mark.fault(33)
def test_a_changed_missing_or_unlisted_file_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    run = require_run(tmp_path)
    (tmp_path / "engines" / "b.plan").write_text("two")
    with pytest.raises(UnsafeError, match="is not listed"):
        run.checked("engines/b.plan")
    (tmp_path / "engines" / "a.plan").write_text("One")
    with pytest.raises(UnsafeError, match="was changed: sha256"):
        run.checked("engines/a.plan")
    (tmp_path / "engines" / "a.plan").unlink()
    with pytest.raises(InputError, match="missing"):
        run.checked("engines/a.plan")


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        require_run(tmp_path)


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    "text", ['{"schema_version": 99, "stages": {}}', '{"schema_version": 1}', "{}", "junk"]
)
def test_a_manifest_of_another_kind_does_not_count(tmp_path: Path, text: str) -> None:
    make_run(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    assert read_manifest(tmp_path / MANIFEST) is None


def test_a_stage_is_current_only_with_its_key_and_its_bytes(tmp_path: Path) -> None:
    make_run(tmp_path)
    with open_run(tmp_path) as run:
        assert run.find("engine", digest("other")) is None
        assert run.find("another", digest("one")) is None
        assert run.find("engine", digest("one")) is not None
    (tmp_path / "engines" / "a.plan").write_text("0ne")
    with open_run(tmp_path) as run:
        assert run.find("engine", digest("one")) is None


@pytest.mark.fault(39)
def test_a_killed_run_finds_its_finished_stages_and_publishes_none(tmp_path: Path) -> None:
    make_run(tmp_path, "old")
    before = sha256(tmp_path / "engines" / "a.plan"), (tmp_path / MANIFEST).read_text()
    with open_run(tmp_path) as run:
        run.scratch("engines/a.plan").write_text("new")
        run.record("engine", digest("new"), ("engines/a.plan",), {}, 0.0)
    assert (sha256(tmp_path / "engines" / "a.plan"), (tmp_path / MANIFEST).read_text()) == before
    with open_run(tmp_path) as run:
        assert run.find("engine", digest("new")) is not None
        assert run.file("engines/a.plan").read_text() == "new"
        run.publish({})
    assert (tmp_path / "engines" / "a.plan").read_text() == "new"


def test_publishing_names_what_an_earlier_run_left(tmp_path: Path) -> None:
    make_run(tmp_path)
    with open_run(tmp_path) as run:
        run.scratch("b.onnx").write_text("b")
        run.record("export", "key", ("b.onnx",), {}, 0.0)
        assert run.publish({}) == ["engines/a.plan"]
    assert (tmp_path / "engines" / "a.plan").is_file()  # nothing good is deleted


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
