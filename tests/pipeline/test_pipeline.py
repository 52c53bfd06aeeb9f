"""Whole runs: what they publish, what they skip, and what a failed one leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import POCKET, ROOT, Silent
from damage import DAMAGES
from killing import export_until
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    InputError,
    VerificationError,
)
from swin_deploy.core.files import sha256
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.engine.target import Target
from swin_deploy.graph import half, simplify
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline import engines, stages
from swin_deploy.pipeline.plan import make_plan
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export

FILES = {
    "model.raw.onnx",
    "model.onnx",
    "model.fp16.onnx",
    "engines/cpu-fp32.onnx",
    "engines/rtx-fp16.plan",
    "engines/rtx-fp16.kernels.json",
    "engines/rtx-fp16.log",
    "verify.json",
}


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def run_copy(pocket_run: RunResult, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return shutil.copytree(pocket_run.path, tmp_path / "run")


def pocket_request(out: Path, **changes: object) -> ExportRequest:
    request = ExportRequest(variant=POCKET, out=out, batch=BatchRange(low=1, high=4))
    return replace(request, **changes)  # type: ignore[arg-type]


def test_a_run_publishes_what_its_manifest_lists(pocket_run: RunResult) -> None:
    manifest = json.loads((pocket_run.path / "manifest.json").read_text())
    listed = {
        name: value
        for stage in manifest["stages"].values()
        for name, value in stage["outputs"].items()
    }
    assert listed.keys() == FILES
    assert snapshot(pocket_run.path) == listed | {
        "manifest.json": sha256(pocket_run.path / "manifest.json")
    }
    assert manifest["weights"] == {"source": "random", "seed": 0}


def test_the_verification_covers_every_file_at_several_batch_sizes(pocket_run: RunResult) -> None:
    verification = json.loads((pocket_run.path / "verify.json").read_text())
    assert verification["passed"]
    here = {"engine cpu-fp32"} | ({"engine rtx-fp16"} if device_problem() is None else set())
    assert len(here) + len(verification["not_run"]) == 2  # what cannot run is named
    inputs: dict[str, set[str]] = {}
    for row in verification["comparisons"]:
        assert row["passed"]
        inputs.setdefault(row["candidate"], set()).add(row["inputs"])
    every = {"noise x1", "noise x2", "noise x3", "noise x4", "black x1", "white x1", "grey x1"}
    every |= {"saturated x6", "checkerboard x1", "pixel noise x2", "spikes x2"}
    assert inputs == {
        "form, stage 1": {"noise x1"},
        "form, stage 2": {"noise x1"},
        "form, stage 3": {"noise x1"},
        "export form": every,
        "onnx, exported": every,
        "onnx, simplified": every,
        "onnx, fp16": every,
        **dict.fromkeys(here, every),
    }


def test_a_second_run_does_nothing_and_says_so(run_copy: Path, listener: Silent) -> None:
    before = snapshot(run_copy)
    result = run_export(pocket_request(run_copy), listener)
    assert set(result.current) == set(result.stages)
    assert len(result.current) == 6
    assert snapshot(run_copy) == before


def test_what_was_said_of_the_files_is_said_again_where_they_are_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, final: Path, *rest: object) -> simplify.Simplified:
        shutil.copy(source, final)
        return simplify.Simplified(nodes_before=1, nodes_after=1, failure="it gave up")

    monkeypatch.setattr(simplify, "simplify_graph", refuse)
    asked = pocket_request(tmp_path / "run", precisions=("fp32",), targets=("cpu",))
    first = run_export(asked, Silent())
    assert "the graph is not simplified: it gave up" in first.notes
    listener = Silent()
    again = run_export(asked, listener)
    assert set(again.current) == set(again.stages)
    assert again.notes == first.notes == tuple(listener.notes)
    assert again.header == first.header


def test_photos_alone_bring_only_the_verification_and_the_ranges_back(
    run_copy: Path, listener: Silent, photos: Path
) -> None:
    result = run_export(pocket_request(run_copy, images=photos), listener)
    assert set(result.stages) - set(result.current) == {"fp16", "verify"}
    rows = [r for r in result.verification["comparisons"] if r["inputs"].startswith("photos")]
    assert {row["inputs"] for row in rows} == {"photos x20"}
    assert {row["candidate"] for row in rows} >= {"onnx, simplified", "onnx, fp16"}
    assert result.header["photos"]["found"] >= 100


def test_another_seed_brings_everything_back(run_copy: Path, listener: Silent) -> None:
    before = snapshot(run_copy)
    result = run_export(pocket_request(run_copy, seed=1), listener)
    assert result.current == ()
    after = snapshot(run_copy)
    same = {name for name in FILES if after[name] == before[name]}
    assert same == {"engines/rtx-fp16.kernels.json"}  # what the compiler makes needs no numbers


def test_a_damaged_file_is_made_again(run_copy: Path, listener: Silent) -> None:
    before = snapshot(run_copy)
    with (run_copy / "model.fp16.onnx").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\xff")
    result = run_export(pocket_request(run_copy), listener)
    assert set(result.stages) - set(result.current) == {"fp16"}
    assert snapshot(run_copy)["model.fp16.onnx"] == before["model.fp16.onnx"]


@pytest.mark.fault(22)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_network_fails_and_leaves_nothing(
    damage: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    listener: Silent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(monkeypatch)
    with pytest.raises(VerificationError, match="export form") as caught:
        run_export(pocket_request(tmp_path, precisions=("fp32",)), listener)
    assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_damaged_network_leaves_an_earlier_run_whole(
    run_copy: Path, listener: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(run_copy)
    DAMAGES["wrong_mask"](monkeypatch)
    with pytest.raises(VerificationError):
        run_export(pocket_request(run_copy, seed=1), listener)
    assert snapshot(run_copy) == before


def scale_weights(path: Path, factor: float) -> None:
    """Change the numbers of an FP16 graph a little, as a bad conversion would."""
    model = onnx.load(path)
    (tensor,) = (
        t for t in model.graph.initializer if t.name == "layers.1.blocks.0.attn.qkv.weight"
    )
    value = onnx.numpy_helper.to_array(tensor) * np.float16(factor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), tensor.name))
    onnx.save(model, path)


def test_a_bad_fp16_graph_fails_the_gate(
    tmp_path: Path, listener: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = half.convert_to_half

    def damaged(source: Path, final: Path, *rest: object) -> half.HalfGraph:
        result = convert(source, final, *rest)  # type: ignore[arg-type]
        scale_weights(final, 1.2)
        return result

    monkeypatch.setattr(half, "convert_to_half", damaged)
    with pytest.raises(VerificationError, match="onnx, fp16 disagrees") as caught:
        run_export(pocket_request(tmp_path, targets=("rtx",)), listener)
    failed = [
        row for row in caught.value.details["verification"]["comparisons"] if not row["passed"]
    ]
    assert {row["candidate"] for row in failed} == {"onnx, fp16"}
    assert all(row["sqnr_db"] < FLOORS_DB["fp16"] for row in failed)
    assert not (tmp_path / "engines").exists()


def test_a_wrong_engine_fails_the_gate(
    tmp_path: Path, listener: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine built from another network than the one that was verified."""
    other = run_export(pocket_request(tmp_path / "other", seed=1, targets=("cpu",)), listener)
    action = engines.engine_action

    def damaged(target: object, precision: object) -> object:
        build = action(target, precision)  # type: ignore[arg-type]

        def run(context: object) -> object:
            details = build(context)  # type: ignore[arg-type]
            engine = context.folder.scratch("engines/cpu-fp32.onnx")  # type: ignore[attr-defined]
            shutil.copy(other.path / "engines" / "cpu-fp32.onnx", engine)
            return details

        return run

    monkeypatch.setattr(stages, "engine_action", damaged)
    with pytest.raises(VerificationError, match="engine cpu-fp32 disagrees"):
        run_export(pocket_request(tmp_path / "run", targets=("cpu",)), listener)
    assert not (tmp_path / "run" / "engines").exists()


def test_planned_targets_choose_the_form_installed_or_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = pocket_request(tmp_path, batch=BatchRange())
    for cpu_only in ({"targets": ("cpu",)}, {"precisions": ("fp32",)}):
        assert make_plan(replace(request, **cpu_only)).form == "packed"  # type: ignore[arg-type]
    monkeypatch.setattr(Target, "installed", property(lambda target: target.name == "cpu"))
    assert make_plan(request).form == "slabs"
    assert make_plan(replace(request, batch=BatchRange(low=1, high=4))).form == "packed"


def test_a_missing_target_is_left_out_by_name_or_refused_by_name(
    run_copy: Path, listener: Silent, tmp_path: Path
) -> None:
    run_export(pocket_request(run_copy), listener)
    assert any("tensorrt, which is not installed" in note for note in listener.notes)
    assert any("pip install" in note for note in listener.notes)
    with pytest.raises(EnvironmentMissingError):
        run_export(pocket_request(tmp_path / "new", targets=("cpu", "tensorrt")), listener)
    assert not (tmp_path / "new").exists()  # refused before any work


def test_a_target_without_an_engine_in_that_precision_is_refused(
    tmp_path: Path, listener: Silent
) -> None:
    with pytest.raises(ConfigError, match="target rtx has no engine in fp32") as caught:
        run_export(pocket_request(tmp_path, targets=("rtx",), precisions=("fp32",)), listener)
    assert caught.value.hint == "--precision fp16,bf16,int8"


def test_only_what_was_asked_for_is_made(tmp_path: Path, listener: Silent) -> None:
    request = pocket_request(tmp_path, targets=("cpu",), precisions=("fp32",))
    result = run_export(request, listener)
    assert set(result.stages) == {"export", "simplify", "engine:cpu-fp32", "verify"}
    assert not (tmp_path / "model.fp16.onnx").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a folder of photos"),
        (lambda folder: folder.mkdir(), "holds no photos"),
        (lambda folder: (folder.mkdir(), (folder / "x.jpg").write_text("no")), "cannot be read"),
    ],
)
def test_a_useless_photo_folder_is_refused(
    make: Callable[[Path], object], message: str, run_copy: Path, listener: Silent, tmp_path: Path
) -> None:
    before = snapshot(run_copy)
    folder = tmp_path / "photos"
    make(folder)
    with pytest.raises(InputError, match=message):
        run_export(pocket_request(run_copy, images=folder), listener)
    assert snapshot(run_copy) == before


@pytest.mark.fault(39)
@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_and_never_publishes_half(tmp_path: Path) -> None:
    """Killed as each stage ends and around the publication; no finished stage runs again."""
    config = tmp_path / "small.toml"
    config.write_text(
        "image_size = 32\nembed_dim = 16\ndepths = [2]\nnum_heads = [1]\nwindow_size = 4\n"
    )
    out = tmp_path / "run"
    arguments = ("--config", str(config), "--target", "cpu", "--out", str(out), "--json")
    stages_in_order = ("export", "simplify", "fp16", "engine:cpu-fp32", "verify")
    for number, stage in enumerate(stages_in_order):
        export_until(f"record {stage}", tmp_path, *arguments)
        assert not (out / "manifest.json").exists()
        staged = out / ".staging" / "manifest.json"
        listed = list(json.loads(staged.read_text())["stages"]) if number else []
        assert listed == list(stages_in_order[:number])
    export_until("publish", tmp_path, *arguments)
    assert not (out / "manifest.json").exists()
    export_until("discard", tmp_path, *arguments)
    records = json.loads((out / "manifest.json").read_text())["stages"]
    assert list(records) == list(stages_in_order)
    for record in records.values():
        for name, expected in record["outputs"].items():
            assert sha256(out / name) == expected
    command = [sys.executable, "-m", "swin_deploy", "export", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["verification"]["passed"]
    assert found["current"] == list(stages_in_order)
    assert not list(out.glob(".model*"))
    assert not (out / ".staging").exists()
