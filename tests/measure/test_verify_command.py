"""The ``verify`` command: slots, extremes, floors, exit codes, and where its report goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import FileAccessError, UnsafeError
from swin_deploy.core.files import sha256
from swin_deploy.data.images import InputSet
from swin_deploy.measure.verify.candidates import (
    Candidate,
    floor_between,
    list_candidates,
    open_graph,
)
from swin_deploy.measure.verify.checks import check_pair
from swin_deploy.measure.verify.outputs import SPIKE, make_extremes
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run, find_problem
from swin_deploy.run import finished
from swin_deploy.run.finished import Run, require_run


@pytest.mark.parametrize(
    ("name", "content"),
    [("manifest.json", None), ("table.json", "image,class"), ("evaluate.json", '{"kind": "x"}')],
)
def test_a_file_of_another_kind_is_not_overwritten(
    masked_run: Run,
    tmp_path: Path,
    name: str,
    content: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / name
    out.write_text(content or (masked_run.path / name).read_text())
    before = out.read_text()
    assert cli.run(["verify", str(masked_run.path), "--out", str(out)]) == 9
    assert "is no report of this command" in capsys.readouterr().err
    with pytest.raises(FileAccessError, match=name):
        check_run(VerifyRequest(run=masked_run.path, out=out), print)
    assert out.read_text() == before


def test_a_right_run_passes_and_its_own_files_stay(
    masked_run: Run, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(masked_run.path, run)
    before = {p: sha256(p) for p in run.rglob("*") if p.is_file()}
    arguments = ["--images", str(photos), "--limit", "3", "--bisect", "--json"]
    assert cli.run(["verify", str(run), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert json.loads((run / "checks.json").read_text()) == report
    assert {p: sha256(p) for p in before} == before
    seen = {row["inputs"] for row in report["checks"] if row["kind"] == "outputs"}
    assert seen == {
        *("noise x1", "noise x2", "noise x3", "noise x4", "black x1", "white x1", "grey x1"),
        *("saturated x6", "checkerboard x1", "pixel noise x2", "spikes x2", "photos 1-3"),
    }
    assert {row["candidate"] for row in report["checks"]} >= {"eager", "raw", "onnx", "fp16"}
    assert {pair["candidate"] for pair in report["bisections"]} == {"raw", "onnx", "fp16"}


def test_what_cannot_run_here_is_said(
    masked_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "why_not_here", lambda target, flags: "no such GPU")
    common = ["verify", str(masked_run.path), "--out", str(tmp_path / "x.json")]
    assert cli.run(common) == 0
    assert json.loads((tmp_path / "x.json").read_text())["not_run"] == {"cpu-fp32": "no such GPU"}
    assert cli.run([*common, "--between", "eager,cpu-fp32"]) == 4


def mix_slots(source: Path, final: Path) -> str:
    """A graph that adds a little of the mean of the batch to every image's logits."""
    model = onnx.load(source)
    graph = model.graph
    (head,) = [node for node in graph.node if "logits" in node.output]
    head.output[0] = "own"
    constants = {"axis": np.array([0], np.int64), "little": np.array(1e-3, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["own", "axis"], ["all"], keepdims=1),
            onnx.helper.make_node("Mul", ["all", "little"], ["share"]),
            onnx.helper.make_node("Add", ["own", "share"], ["logits"]),
        ]
    )
    onnx.save(model, final)
    return str(final)


def test_a_graph_that_mixes_slots_fails(masked_run: Run, tmp_path: Path) -> None:
    graph = mix_slots(masked_run.path / "model.onnx", tmp_path / "mixed.onnx")
    request = VerifyRequest(
        run=masked_run.path, between=(("onnx", graph),), out=tmp_path / "x.json"
    )
    rows = [r for r in check_run(request, print)["checks"] if r["kind"] == "slots"]
    verdicts = {(row["candidate"], row["inputs"]): row["passed"] for row in rows}
    sizes = (3, 4)
    for size in sizes:
        copies, others = (f"one image in {size} slots, {x} beside it" for x in ("itself", "others"))
        assert verdicts[graph, copies]  # the mean of copies is the image itself
        assert not verdicts[graph, others]
        assert verdicts["onnx", copies]
        assert verdicts["onnx", others]
    assert "slot" in next(row["reason"] for row in rows if not row["passed"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--between", "eager"], 2),
        (["--between", "eager,nothing"], 2),
        (["--between", "eager,eager"], 2),
        (["--between", "eager,missing.onnx"], 3),
        (["--limit", "3"], 2),
        (["--batches", "0"], 2),
        (["--plot", "x.svg"], 2),
        (["--bisect", "--plot", "x.pdf"], 2),
        (["--save", "x.json"], 2),
        (["--against", "x.npz", "--bisect"], 2),
        (["--against", "missing.npz"], 3),
        (["--images", "missing"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes(
    masked_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["verify", str(masked_run.path), "--out", "x.json", *arguments]) == code
    assert not (tmp_path / "x.json").exists()


def test_without_a_run_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert cli.run(["verify", str(tmp_path)]) == 3
    assert find_problem([]) == "nothing was compared that could be judged"


def test_floors_of_two_add_up(masked_run: Run) -> None:
    sides = list_candidates(masked_run)
    assert floor_between((sides["eager"], sides["onnx"])) == pytest.approx(110)
    assert floor_between((sides["raw"], sides["onnx"])) == pytest.approx(103.98, abs=0.01)
    half = replace(sides["onnx"], precision="fp16")
    assert floor_between((half, sides["onnx"])) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(
    ("inputs", "noise_db", "passed"),
    [
        ("noise x3", 41, True),
        ("noise x3", 39, False),
        ("checkerboard x1", 31, True),
        ("checkerboard x1", 29, False),
    ],
)
def test_fp16_has_a_floor_of_its_own_on_extremes(
    masked_run: Run, inputs: str, noise_db: float, passed: bool
) -> None:
    sides = list_candidates(masked_run)
    logits = np.random.default_rng(0).standard_normal((1, 7)).astype(np.float32)
    results = {"logits": logits}, {"logits": logits * (1 + 10 ** (-noise_db / 20))}
    (row,) = check_pair(
        masked_run, sides["eager"], sides["fp16"], InputSet(inputs, logits), results, {}
    )
    assert bool(row) == passed
    assert row.judged


def test_int8_is_judged_on_photos_alone(masked_run: Run) -> None:
    eager, int8 = list_candidates(masked_run)["eager"], Candidate("int8", "int8")
    logits = np.random.default_rng(0).standard_normal((1, 7)).astype(np.float32)
    results = {"logits": logits}, {"logits": logits * 1.2}
    photo, noise = (InputSet("x", logits, natural=natural) for natural in (True, False))
    (judged,) = check_pair(masked_run, eager, int8, photo, results, {})
    assert not judged
    (reported,) = check_pair(masked_run, eager, int8, noise, results, {})
    assert reported
    assert not reported.judged
    assert "ranges of INT8" in reported.row().reason
    assert find_problem([reported]) == "nothing was compared that could be judged"
    broken = {"logits": logits}, {"logits": logits * np.nan}
    assert not check_pair(masked_run, eager, int8, noise, broken, {})[0]
    # Of a graph that accuracy has let pass: by what it is, and no longer by what is usual.
    by_accuracy = replace(int8, photos_db=13.0)
    (judged,) = check_pair(masked_run, eager, by_accuracy, photo, results, {})
    assert judged
    assert judged.floor_db == pytest.approx(13)
    zeros = {"logits": logits}, {"logits": logits * 0}
    assert not check_pair(masked_run, eager, by_accuracy, photo, zeros, {})[0]


def test_extremes_are_pixels(masked_run: Run) -> None:
    mean, std = (np.array(v) for v in (masked_run.preprocessing.mean, masked_run.preprocessing.std))
    sets = make_extremes(masked_run.images, masked_run.preprocessing, masked_run.config.image_size)
    assert np.abs(sets.pop().images).max() == SPIKE
    for images in sets:
        pixels = (images.images.transpose(0, 2, 3, 1) * std + mean) * 255
        assert pixels.min() >= -1e-3
        assert pixels.max() <= 255 + 1e-3
        assert not images.natural


@pytest.mark.parametrize("option", ["out", "save"])
def test_where_nothing_can_be_written_nothing_is_computed(
    masked_run: Run, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    kept = {"out": tmp_path / "checks.json"} | {option: tmp_path / "file" / "x.npz"}
    listener = Silent()
    with pytest.raises(FileAccessError, match="cannot write in"):
        check_run(VerifyRequest(run=masked_run.path, **kept), listener.started)
    assert not listener.titles


def test_a_graph_that_is_swapped_for_one_in_half_precision_is_refused(
    masked_run: Run, tmp_path: Path
) -> None:
    """It would be rounded, and what was rounded has no recorded hash to be compared with."""
    run = require_run(Path(shutil.copytree(masked_run.path, tmp_path / "run")))
    side = list_candidates(run)["onnx"]
    shutil.copy(run.path / "model.fp16.onnx", run.path / "model.onnx")
    with pytest.raises(UnsafeError, match="was changed"):
        open_graph(side, tmp_path)
