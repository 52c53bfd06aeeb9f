"""Files are whole or not there; a run has one writer, and is published in one step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manifests import edit_manifest, tree
from small_runs import EXPORT, FILES, STAGES, fill, make_header, make_run, read_text
from swin_deploy.core.errors import BusyError, FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import (
    atomic_path,
    digest,
    read_json,
    require_writable,
    write_json,
)
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.run.details import LOCK, MANIFEST, STAGING
from swin_deploy.run.finished import find_run, require_run
from swin_deploy.run.folder import PARTIAL, lock_folder, open_run
from swin_deploy.run.manifest import stage_key


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


def test_a_run_says_what_its_manifest_does(tmp_path: Path) -> None:
    make_run(tmp_path)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["weights"] = {"source": "random", "seed": 3}
        manifest["interface"] = {"io": "uint8", "activation": "softmax", "topk": 2}
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
