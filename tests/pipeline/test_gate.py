"""Wrong networks that noise at a few batch sizes does not show: the gate has to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import behind
from conftest import TRAINED, Silent, trained_request
from manifests import edit_manifest
from swin_deploy.bundle.make import write_guide
from swin_deploy.bundle.source import never_run_note
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import VerificationError
from swin_deploy.core.files import sha256
from swin_deploy.data.images import FP32_INPUT, make_noise
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.verify.conversions import require_scales_of_graph
from swin_deploy.measure.verify.outputs import make_extremes
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.pipeline import engines, gate, stages
from swin_deploy.pipeline.request import ExportRequest, Int8Options
from swin_deploy.pipeline.run import run_export
from swin_deploy.pipeline.stages import Stage
from swin_deploy.report.deployment import describe_stage
from swin_deploy.run.details import STATISTICS
from swin_deploy.run.finished import require_run
from swin_deploy.run.manifest import read_manifest
from swin_deploy.runtime.build import compare_engine
from swin_deploy.runtime.trust import open_bundle

ENGINE = "engine:cpu-fp32", "engines/cpu-fp32.onnx"


def request(out: Path, **changes: Any) -> ExportRequest:
    """The trained network for a CPU in FP32, batch 1 to 4."""
    asked: dict[str, Any] = {
        "batch": BatchRange(low=1, high=4),
        "precisions": ("fp32",),
        "targets": ("cpu",),
    }
    return trained_request(out, **asked | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``request``. Tests must not change it."""
    return run_export(request(tmp_path_factory.mktemp("made") / "run"), Silent()).path


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same to change; of what depends on nothing else, nothing is made again."""
    return shutil.copytree(made, tmp_path / "run")


def published(run: Path) -> bytes:
    return (run / "manifest.json").read_bytes()


def failed(error: VerificationError) -> set[tuple[str, str]]:
    rows = error.details["verification"]["comparisons"]
    return {(row["candidate"], row["inputs"]) for row in rows if not row["passed"]}


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        (behind.halve_at_batch(2), {"noise x2"}),
        (behind.nan_where("flat"), {"black x1", "white x1", "grey x1"}),
        (behind.nan_where("far"), {"spikes x2"}),
    ],
    ids=["one batch size", "flat images", "values beyond 6"],
)
def test_an_engine_that_is_wrong_for_some_calls_is_refused(
    change: behind.Change, inputs: set[str], copy: Path
) -> None:
    before = published(copy)
    with pytest.raises(VerificationError, match="engine cpu-fp32 disagrees") as caught:
        run_export(request(copy), Silent(), behind.behind(*ENGINE, change))
    assert caught.value.exit_code == 5
    assert {seen for _, seen in failed(caught.value)} >= inputs
    assert {candidate for candidate, _ in failed(caught.value)} == {"engine cpu-fp32"}
    assert published(copy) == before


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        (behind.halve_at_batch(2), {"noise x2", "noise, one x2"}),
        (behind.nan_where("flat"), {"extremes"}),
        (behind.nan_where("far"), {"extremes"}),
    ],
    ids=["one batch size", "flat images", "values beyond 6"],
)
def test_so_is_one_that_was_built_on_a_device(
    digits_folder: Path, change: behind.Change, inputs: set[str], tmp_path: Path
) -> None:
    shipped, path = open_bundle(digits_folder), tmp_path / "engine.onnx"
    onnx.save(onnx.load(digits_folder / shipped.graphs["fp32"].file), path)
    sizes = shipped.batch.checked_sizes()
    assert all(compare_engine(shipped, "fp32", path, sizes))
    change(path)
    rows = compare_engine(shipped, "fp32", path, sizes)
    assert {row.inputs for row in rows if not row} == inputs


def test_sizes_of_a_large_batch_are_drawn_and_can_be_drawn_again(tmp_path: Path) -> None:
    def export(seed: int | None) -> tuple[set[str], dict[str, Any], list[str]]:
        listener = Silent()
        asked = request(tmp_path, batch=BatchRange(low=1, high=16), gate_seed=seed)
        result = run_export(asked, listener)
        rows = result.verification["comparisons"]
        seen = {r["inputs"] for r in rows if r["inputs"].startswith("noise")}
        return seen, result.verification["batches"], listener.notes

    seen, drawn, notes = export(None)
    assert seen == {f"noise x{size}" for size in drawn["sizes"]}
    assert {1, 16} < set(drawn["sizes"])
    assert len(seen) == 5
    (said,) = [note for note in notes if f"--gate-seed {drawn['seed']} draws the same" in note]
    unchanged, kept, repeated = export(None)  # nothing is drawn where nothing is verified again
    assert (unchanged, kept) == (seen, drawn)
    assert said in repeated
    again, the_same, _ = export(drawn["seed"])
    assert again == seen
    assert the_same == drawn


PIXELS = Interface(activation="softmax", topk=3, io="uint8")


@pytest.mark.parametrize(
    ("target", "interface"),
    [
        ("cpu", Interface(topk=1)),
        ("cpu", PIXELS),
        ("cpu-openvino", Interface(activation="softmax")),
        ("cpu-openvino", PIXELS),
    ],
    ids=["best class", "best of pixels", "probabilities, OpenVINO", "best of pixels, OpenVINO"],
)
def test_classes_that_never_win_are_compared(target: str, interface: Interface, copy: Path) -> None:
    """The logits of every graph and engine, though none gives them any more."""
    asked = request(copy, interface=interface, targets=(target,))
    result = run_export(asked, Silent())
    rows = result.verification["comparisons"]
    before = {r["candidate"] for r in rows if "before its ends" in r["candidate"]}
    assert before == {
        f"{n}, before its ends" for n in ("onnx, simplified", f"engine {target}-fp32")
    }
    assert {r["output"] for r in rows if r["candidate"] in before} == {"logits"}


def test_an_engine_in_which_classes_cannot_win_is_refused(copy: Path) -> None:
    """Those that never win on the images of the gate, so that its outputs are all right."""
    taken, steps = FP32_INPUT, TRAINED.preprocessing
    seen = [make_noise(size, 1, (32, 32)) for size in (1, 2, 3, 4)]
    seen += make_extremes(taken, steps, (32, 32))
    with OnnxRuntimeRunner(copy / "model.raw.onnx") as runner:
        logits = [run_all(runner, images.images)["logits"] for images in seen]
    losers = sorted({*range(10)} - {*np.concatenate(logits).argmax(axis=1).tolist()})
    assert losers

    def impossible(bias: np.ndarray) -> np.ndarray:
        bias[losers] = -1e4
        return bias

    asked = request(copy, interface=Interface(topk=1))
    change = behind.edit_head_bias(impossible)
    with pytest.raises(VerificationError) as caught:
        run_export(asked, Silent(), behind.behind(*ENGINE, change))
    assert {name for name, _ in failed(caught.value)} == {"engine cpu-fp32, before its ends"}


def test_ends_are_what_they_are_by_definition(copy: Path) -> None:
    """A number added between the logits and TopK is no part of either."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        (last,) = (node for node in model.graph.node if node.op_type == "TopK")
        index = list(model.graph.node).index(last)
        add = helper.make_node("Abs", [last.input[0]], ["other"])
        last.input[0] = "other"
        model.graph.node.insert(index, add)
        onnx.save(model, path)

    asked = request(copy, interface=Interface(activation="softmax", topk=10))
    with pytest.raises(VerificationError, match="is made by Abs, not Softmax"):
        run_export(asked, Silent(), behind.behind(*ENGINE, change))


@pytest.fixture(scope="module")
def plans(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with plans for GPUs of two kinds, of which none is here."""
    out = shutil.copytree(made, tmp_path_factory.mktemp("plans") / "run")
    return run_export(request(out, **PLANS), Silent()).path


PLANS = {"precisions": ("fp32", "fp16"), "targets": ("cpu", "rtx-40", "rtx-50")}
PLAN = "engine:rtx-50-fp16", "engines/rtx-50-fp16.plan"


def end_in_zeros(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))


def be_another(path: Path) -> None:
    """The plan of the same graph for another GPU."""
    shutil.copy(path.with_name("rtx-40-fp16.plan"), path)


@pytest.mark.parametrize("change", [end_in_zeros, be_another])
def test_a_plan_that_nothing_runs_is_what_its_compiler_wrote(
    plans: Path, change: behind.Change, tmp_path: Path
) -> None:
    copy = shutil.copytree(plans, tmp_path / "run")
    staged = copy / ".staging" / "engines"
    staged.mkdir(parents=True)
    shutil.copy(plans / "engines" / "rtx-40-fp16.plan", staged)
    with pytest.raises(VerificationError, match=r"rtx-50-fp16\.plan is not the file") as caught:
        run_export(request(copy, **PLANS), Silent(), behind.behind(*PLAN, change))
    assert caught.value.exit_code == 5
    assert published(copy) == published(plans)


def of_another_graph(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"blocks.0.attn", b"blocks.9.attn"))


def of_nothing(path: Path) -> None:
    """Neither it nor its listing names anything."""
    path.write_bytes(bytes(4096))
    listing = path.with_suffix(".kernels.json")
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"kernels": []}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (of_another_graph, "nodes that its graph does not have"),
        (of_nothing, r"names no node of model\.fp16\.onnx"),
    ],
)
def test_a_plan_names_the_nodes_of_its_graph(
    change: behind.Change, problem: str, plans: Path, tmp_path: Path
) -> None:
    """With a hash to go with it, it still is the plan of another graph, or of none."""
    copy = shutil.copytree(plans, tmp_path / "run")

    def adapt(stages: list[Stage]) -> list[Stage]:
        (stage,) = (one for one in behind.behind(*PLAN, change)(stages) if one.name == PLAN[0])

        def action(context: Any) -> dict[str, Any]:
            details = stage.action(context)
            details["written"]["files"][".plan"] = sha256(context.folder.scratch(PLAN[1]))
            return details

        return [replace(stage, action=action) if one.name == PLAN[0] else one for one in stages]

    with pytest.raises(VerificationError, match=problem):
        run_export(request(copy, **PLANS), Silent(), adapt)


def test_an_engine_of_another_graph_is_refused(
    plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(plans, tmp_path / "run")
    monkeypatch.setattr(engines, "graph_of", lambda target, precision: "model.onnx")
    with pytest.raises(
        VerificationError, match=r"model\.fp16\.onnx is not the file that the engine"
    ):
        run_export(request(copy, **PLANS), Silent(), behind.behind(*PLAN, lambda path: None))
    assert published(copy) == published(plans)


def int8(photos: Path, out: Path) -> ExportRequest:
    options = Int8Options(calibration=photos, images=20)
    return request(out, precisions=("fp32", "int8"), int8=options)


@pytest.fixture(scope="module")
def quantised(made: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with INT8. Tests must not change it."""
    out = shutil.copytree(made, tmp_path_factory.mktemp("quantised") / "run")
    return run_export(int8(photos, out), Silent()).path


INT8_GRAPH, INT8_ENGINE = "model.int8.cpu.onnx", "engines/cpu-int8.onnx"


def scale_by(factor: float, most: int) -> behind.Change:
    """The first scales of activations times a number."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        names = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        found = [t for t in model.graph.initializer if t.name in names][:most]
        assert found
        for tensor in found:
            value = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        onnx.save(model, path)

    return change


@pytest.mark.parametrize(
    "change",
    [scale_by(8, 1), scale_by(4, 100), scale_by(1 + 2**-10, 1)],
    ids=["one by 8", "all by 4", "one by a thousandth"],
)
def test_a_scale_that_calibration_does_not_give_is_refused(
    quantised: Path, photos: Path, change: behind.Change, tmp_path: Path
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    adapt = behind.behind("int8:onnxruntime", INT8_GRAPH, change)
    with pytest.raises(VerificationError, match=r"is quantised with scale .* calibration gives"):
        run_export(int8(photos, copy), Silent(), adapt)
    assert published(copy) == published(quantised)


def test_an_engine_has_the_scales_of_its_graph(quantised: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    graph, engine = copy / INT8_GRAPH, copy / INT8_ENGINE
    require_scales_of_graph(graph, engine)
    scale_by(4, 1)(copy / INT8_ENGINE)
    with pytest.raises(VerificationError, match="has other scales than"):
        require_scales_of_graph(graph, engine)


def relist(run: Path, name: str) -> None:
    """Put the hash of what a file is now into the manifest, as whoever means harm would."""

    def edit(manifest: dict[str, Any]) -> None:
        for stage in manifest["stages"].values():
            if name in stage["outputs"]:
                stage["outputs"][name] = sha256(run / name)

    edit_manifest(run, edit)


def test_verify_finds_what_the_gate_would(
    quantised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    assert cli.run(["verify", str(copy)]) == 0
    assert "compared exactly with what they were made from: INT8" in capsys.readouterr().out
    scale_by(1.5, 1)(copy / INT8_GRAPH)
    relist(copy, INT8_GRAPH)
    assert cli.run(["verify", str(copy)]) == 5
    assert "is quantised with scale" in capsys.readouterr().err
    report = json.loads((copy / "checks.json").read_text())
    assert not report["passed"]
    assert "calibration gives" in report["problem"]
    assert cli.run(["bundle", str(copy), "--target", "cpu", "--precision", "int8"]) == 5
    assert "is quantised with scale" in capsys.readouterr().err


def test_verify_finds_an_engine_in_the_place_of_another(
    quantised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    shutil.copyfile(copy / "engines" / "cpu-fp32.onnx", copy / INT8_ENGINE)
    relist(copy, INT8_ENGINE)
    assert cli.run(["verify", str(copy)]) == 5
    assert f"{INT8_ENGINE} is not the file its compiler wrote" in capsys.readouterr().err


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def count_otherwise(path: Path) -> None:
    """A file that is whole, of other images."""
    with np.load(path) as archive:
        head, counts = json.loads(archive["head"].tobytes()), archive["counts"]
    next(iter(head["tensors"].values()))["maximum"] *= 2
    np.savez_compressed(
        path, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8), counts=counts
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [(cut_short, "is damaged"), (count_otherwise, "does not hold what was counted")],
)
def test_statistics_that_are_damaged_are_refused_and_not_made_again(
    quantised: Path, photos: Path, change: behind.Change, message: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    listener = Silent()
    with pytest.raises(VerificationError, match=message) as caught:
        run_export(int8(photos, copy), listener, behind.behind("calibrate", STATISTICS, change))
    assert caught.value.exit_code == 5
    assert not any("calibrating again" in note for note in listener.notes)
    assert published(copy) == published(quantised)


def test_an_engine_runs_as_soon_as_a_machine_can_and_is_then_proven_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, here = request(tmp_path / "run"), ""

    def why(target: Target, flags: Sequence[str] = ()) -> str | None:
        return here or None

    monkeypatch.setattr(gate, "why_not_here", why)
    monkeypatch.setattr(stages, "why_not_here", why)
    candidates = []
    for here, current in (  # noqa: B007 - read by ``why``
        ("no such CPU", False),
        ("no such CPU", True),
        ("", False),
        ("", True),
        ("no such CPU", True),
    ):
        result = run_export(asked, Silent())
        assert ("verify" in result.current) == current
        manifest = read_manifest(asked.out / "manifest.json")
        rows = result.verification["comparisons"]
        candidates.append("engine cpu-fp32" in {row["candidate"] for row in rows})
        assert ("engine cpu-fp32" in manifest.header.never_run) == (not candidates[-1])
    assert candidates == [False, False, True, True, True]


@pytest.mark.skipif(device_problem() is None, reason="such a plan might run here")
def test_what_nothing_ran_is_marked_wherever_it_is_named(plans: Path) -> None:
    manifest = read_manifest(plans / "manifest.json")
    assert manifest is not None
    assert list(manifest.header.never_run) == ["engine rtx-40-fp16", "engine rtx-50-fp16"]
    marked = {n for n in manifest.stages if describe_stage(n, manifest.stages).startswith("NEVER")}
    assert marked == {"engine:rtx-40-fp16", "engine:rtx-50-fp16"}
    source = require_run(plans)
    for target, never in (("cpu", False), ("rtx-50", True)):
        note = never_run_note(source, TARGETS[target])
        assert (note is not None) == never
        guide = write_guide(source, TARGETS[target], ("fp16",)).decode()
        assert ("NEVER RUN" in guide) == never
