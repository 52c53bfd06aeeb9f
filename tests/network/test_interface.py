"""Whole runs with other inputs and outputs, and the damage to these that the gate must not pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from answers import Answers
from conftest import POCKET, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.data.images import InputSet
from swin_deploy.engine.cost.graph_facts import read_graph
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph import interface as ends
from swin_deploy.graph.export import read_ends
from swin_deploy.graph.interface import read_image_input
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.verify import Comparison, compare_outputs, compare_runners
from swin_deploy.measure.verify import run as verify_run
from swin_deploy.measure.verify.checks import make_inputs
from swin_deploy.measure.verify.outputs import problem_of_classes
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run
from swin_deploy.network.interface import BatchRange, Interface, Precision
from swin_deploy.network.judge import softmax
from swin_deploy.network.model.build import load_model
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.run.finished import require_run

SMALL = replace(
    POCKET,
    config=replace(
        POCKET.config, name="small", image_size=(32, 32), depths=(2,), num_heads=(1,), num_classes=9
    ),
)


def request(out: Path, interface: Interface, **changes: object) -> ExportRequest:
    asked = ExportRequest(
        variant=SMALL,
        out=out,
        interface=interface,
        batch=BatchRange(low=1, high=2),
        targets=("cpu", "rtx"),
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


PIXELS = Interface(io="uint8", activation="softmax", topk=5)


@pytest.fixture(scope="module")
def pixel_run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> RunResult:
    out = tmp_path_factory.mktemp("pixels") / "run"
    every: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    return run_export(request(out, PIXELS, images=photos, precisions=every), Silent())


def test_pixels_in_and_classes_out(pixel_run: RunResult) -> None:
    for name in ("model.onnx", "model.fp16.onnx", "model.bf16.onnx"):
        path = pixel_run.path / name
        inputs, outputs = read_ends(path)
        assert list(inputs) == ["image"]
        assert inputs["image"][0] == "uint8"
        assert inputs["image"][1][1:] == [32, 32, 3]
        assert {n: (dtype, shape[1:]) for n, (dtype, shape) in outputs.items()} == {
            "scores": ("float32", [5]),
            "classes": ("int64", [5]),
        }
        assert read_image_input(path).mean == SMALL.preprocessing.mean
    for name in ("model.raw.onnx", "model.sim.onnx"):
        assert list(read_ends(pixel_run.path / name)[1]) == ["logits"]
    manifest = json.loads((pixel_run.path / "manifest.json").read_text())
    asked = {"io": "uint8", "activation": "softmax", "topk": 5, "task": "single-label"}
    assert manifest["interface"] == asked
    assert pixel_run.stages["engine:rtx-fp16"].details["kernels"] > 0


def test_the_softmax_of_the_classes_is_no_attention(pixel_run: RunResult) -> None:
    assert read_graph(pixel_run.path / "model.fp16.onnx").attentions == 2


def test_every_deployed_file_is_compared_on_pixels(pixel_run: RunResult) -> None:
    rows = pixel_run.verification["comparisons"]
    assert all(row["passed"] for row in rows)
    deployed = {"onnx, simplified", "onnx, fp16", "onnx, bf16", "engine cpu-fp32"}
    found = {(row["candidate"], row["inputs"]) for row in rows if row["output"] == "scores"}
    assert found >= {(c, i) for c in deployed for i in ("noise x1", "noise x2", "photos x20")}
    before = ", before its ends"
    assert {r["candidate"] for r in rows if r["candidate"].endswith(before)} == {
        f"{name}{before}" for name in deployed
    }
    for row in rows:
        assert (row["output"] == "scores") == (
            row["candidate"] in deployed or row["candidate"] == "engine rtx-fp16"
        )
        if row["output"] == "scores" and row["floor_db"] == 110:
            assert row["top1_agreement"] == 1


def test_a_second_run_is_current_and_other_ends_bring_their_files_back(
    pixel_run: RunResult, photos: Path, tmp_path: Path
) -> None:
    asked = request(pixel_run.path, PIXELS, images=photos, precisions=("fp32", "fp16", "bf16"))
    again = run_export(asked, Silent())
    assert set(again.current) == set(again.stages)
    assert "interface" in again.stages


@pytest.mark.parametrize(
    "name", [".", "model.onnx", "model.fp16.onnx", "model.sim.onnx", "model.raw.onnx"]
)
def test_bench_measures_such_a_run(pixel_run: RunResult, name: str) -> None:
    asked = BenchRequest(engine=pixel_run.path / name, batches=(2,), rounds=2, threads=1)
    report = bench_engine(asked, lambda text: None)
    assert report["checks"]
    assert all(row["passed"] for row in report["checks"])


def test_bench_takes_a_file_of_such_a_run_from_elsewhere(
    pixel_run: RunResult, tmp_path: Path
) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes((pixel_run.path / "model.onnx").read_bytes())
    asked = BenchRequest(engine=path, rounds=2, threads=1, variant=SMALL)
    assert len(bench_engine(asked, lambda text: None)["measurements"]) == 2


def test_fp16_ends_are_of_the_fp16_graph(tmp_path: Path) -> None:
    result = run_export(request(tmp_path / "run", Interface(io="fp16")), Silent())
    ends = {
        name: [
            str(v.dtype)
            for g in [ir.load(result.path / name).graph]
            for v in (*g.inputs, *g.outputs)
        ]
        for name in ("model.onnx", "model.fp16.onnx")
    }
    assert ends == {"model.onnx": ["FLOAT"] * 2, "model.fp16.onnx": ["FLOAT16"] * 2}
    assert all(row["passed"] for row in result.verification["comparisons"])
    operators = [n.op_type for n in onnx.load(result.path / "model.fp16.onnx").graph.node]
    assert "Cast" not in operators
    asked = BenchRequest(engine=result.path / "model.fp16.onnx", rounds=2, threads=1)
    assert bench_engine(asked, lambda text: None)["checks"][0]["passed"]


def test_probabilities_take_the_place_of_logits(tmp_path: Path) -> None:
    asked = request(
        tmp_path, Interface(activation="softmax"), precisions=("fp32",), targets=("cpu",)
    )
    result = run_export(asked, Silent())
    rows = [r for r in result.verification["comparisons"] if r["output"] == "probabilities"]
    assert {row["candidate"] for row in rows} == {"onnx, simplified", "engine cpu-fp32"}
    assert all(row["top1_agreement"] == 1 for row in rows)


def wrong_std(monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel is divided by another's standard deviation."""
    take = ends.TakePixels
    monkeypatch.setattr(ends, "TakePixels", lambda mean, std: take(mean, (std[0], std[0], std[2])))


def channels_reversed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of BGR for pixels of RGB."""
    take = ends.TakePixels
    monkeypatch.setattr(ends, "TakePixels", lambda mean, std: take(mean[::-1], std[::-1]))


def another_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities sum to 1 over the images."""
    call = ends.GiveProbabilities.call

    def damaged(self: ends.GiveProbabilities, model: ir.Model) -> ir.passes.PassResult:
        result = call(self, model)
        model.graph[-1].attributes["axis"] = ir.AttrInt64("axis", 0)
        return result

    monkeypatch.setattr(ends.GiveProbabilities, "call", damaged)


def smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst classes instead of the best."""
    call = ends.GiveBest.call

    def damaged(self: ends.GiveBest, model: ir.Model) -> ir.passes.PassResult:
        result = call(self, model)
        model.graph[-1].attributes["largest"] = ir.AttrInt64("largest", 0)
        return result

    monkeypatch.setattr(ends.GiveBest, "call", damaged)


@pytest.mark.parametrize("damage", [wrong_std, channels_reversed, another_axis, smallest])
def test_damaged_ends_fail_the_gate(
    damage: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)  # type: ignore[operator]
    asked = request(tmp_path, PIXELS, precisions=("fp32",), targets=("cpu",))
    with pytest.raises(VerificationError, match=r"onnx, simplified|model\.onnx does not end"):
        run_export(asked, Silent())
    assert not (tmp_path / "manifest.json").exists()


def test_verify_looks_before_the_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that never win: by the best class alone, files and network are the same."""
    asked = request(tmp_path / "run", Interface(topk=1), precisions=("fp32",), targets=("cpu",))
    opened = require_run(run_export(asked, Silent()).path)
    model = load_model(opened.config, opened.weights, opened.seed)
    inputs, _ = make_inputs(opened, (1, 2), None)
    with TorchRunner(model) as runner:
        winners = {c for one in inputs for c in runner.run(one.images)["logits"].argmax(axis=1)}
    losers = sorted({*range(9)} - winners)
    assert losers
    wanted = VerifyRequest(run=opened.path, batches=(1, 2), out=tmp_path / "checks.json")
    assert check_run(wanted, lambda text: None)["passed"]
    with torch.no_grad():
        dict(model.named_parameters())["head.bias"][losers] -= 1e4
    monkeypatch.setattr(verify_run, "load_model", lambda *_: model)
    for between in ((), (("eager", "onnx"), ("eager", "cpu-fp32"))):
        report = check_run(replace(wanted, between=between), lambda text: None)
        failed = {row["candidate"] for row in report["checks"] if not row["passed"]}
        assert failed - {"raw"} == {"onnx, before its ends", "cpu-fp32, before its ends"}


LOGITS = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
ORDER = np.argsort(-LOGITS, axis=1)


def top(k: int, order: np.ndarray = ORDER) -> dict[str, np.ndarray]:
    classes = order[:, :k]
    return {"scores": np.take_along_axis(LOGITS, classes, axis=1), "classes": classes}


def best_of(logits: np.ndarray, outputs: dict[str, np.ndarray], precision: Precision) -> Comparison:
    """The row of the scores, of a network that gives as many of the best classes as it should."""
    wanted = Interface(topk=outputs["scores"].shape[1])
    (row,) = compare_outputs("x", "y", {"logits": logits}, outputs, precision, interface=wanted)
    return row


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("k", [1, 3])
def test_the_best_classes_pass_and_wrong_ones_do_not(k: int, precision: Precision) -> None:
    right = top(k)
    assert best_of(LOGITS, right, precision)
    wrong = {
        "the worst": top(k, ORDER[:, ::-1]),
        "the worst, descending": top(k, np.roll(ORDER, k, axis=1)),
        "shifted by one": right | {"classes": (right["classes"] + 1) % 10},
        "of another image": right | {"classes": np.roll(right["classes"], 1, axis=0)},
        "scores of others": right | {"scores": right["scores"] + 1},
        "the second best": top(k, ORDER[:, 1:]),
    }
    for what, outputs in wrong.items():
        assert not best_of(LOGITS, outputs, precision), what


def test_scores_and_classes_have_to_make_sense() -> None:
    fine = top(3)
    for changes, reason in (
        ({"classes": fine["classes"] + 9}, "there are 10"),
        ({"classes": fine["classes"] * 0}, "named twice"),
        ({"scores": fine["scores"][:, ::-1]}, "do not descend"),
        ({"classes": fine["classes"].astype(np.float32)}, "classes are float32"),
        ({"classes": fine["classes"][:, :2]}, "scores (4, 3) and classes (4, 2)"),
        (top(2), "scores (4, 2) and classes (4, 2), expected (4, 3)"),
        (top(4), "scores (4, 4) and classes (4, 4), expected (4, 3)"),
        ({name: array[:3] for name, array in fine.items()}, "expected (4, 3)"),
        ({"stage1": LOGITS}, "it has another output, stage1"),
    ):
        assert reason in problem_of_classes(fine | changes, LOGITS, 3)
        wanted = Interface(topk=3)
        (row,) = compare_outputs(
            "x", "y", {"logits": LOGITS}, fine | changes, "fp32", interface=wanted
        )
        assert reason in row.reason
    assert problem_of_classes({"scores": fine["scores"]}, LOGITS, 3) == "it has no output classes"
    assert problem_of_classes(fine, LOGITS, 3) == ""


def test_equal_classes_may_come_in_any_order() -> None:
    tied = LOGITS.copy()
    tied[:, 3] = tied[:, 5] = 9.0
    outputs = {"scores": np.full((4, 2), 9.0, np.float32), "classes": np.array([[5, 3]] * 4)}
    row = best_of(tied, outputs, "fp16")
    assert row
    assert row.top1_agreement == 0


def test_what_was_asked_for_is_what_is_compared() -> None:
    """Neither logits in place of probabilities, nor the best of the one for those of the other."""
    reference = {"logits": LOGITS}
    probabilities = {"probabilities": softmax(LOGITS)}
    wanted = Interface(activation="softmax")
    assert all(compare_outputs("x", "y", reference, probabilities, "fp32", interface=wanted))
    assert not all(compare_outputs("x", "y", reference, probabilities, "fp32"))
    assert not all(
        compare_outputs("x", "y", reference, {"probabilities": LOGITS}, "fp32", interface=wanted)
    )
    both = Interface(activation="softmax", topk=3)
    assert not all(compare_outputs("x", "y", reference, top(3), "fp32", interface=both))
    assert all(compare_outputs("x", "y", reference, top(3), "fp32", interface=Interface(topk=3)))


class Pixels(Answers):
    """A network whose logits are the pixels of one row, or the best of these and a little more."""

    def __init__(self, more: float | None = None) -> None:
        self.more, self.batch = more, BatchRange(low=1, high=9)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        logits = images[:, 0, 0]
        if self.more is None:
            return {"logits": logits}
        classes = logits.argmax(axis=1)[:, None]
        return {
            "scores": np.take_along_axis(logits, classes, axis=1) + self.more,
            "classes": classes,
        }


@pytest.mark.parametrize(("more", "passed"), [(0.003, True), (0.3, False)])
def test_scores_are_measured_by_those_of_all_images(more: float, passed: bool) -> None:
    """One image whose best score is near zero says nothing of the error; extremes are such sets."""
    inputs = [
        InputSet(name, np.array([[[logits]]], np.float32))
        for name, logits in (("noise x1", [3.0, -3.0]), ("black x1", [0.01, -0.01]))
    ]
    rows = compare_runners(Pixels(), [(Pixels(more), "fp16")], inputs, Interface(topk=1))
    assert [bool(row) for row in rows] == [passed] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interface": Interface(topk=10)}, "--topk 10: small has 9 classes"),
        ({"interface": Interface(topk=2), "outputs": "stages"}, "--outputs stages gives none"),
        ({"interface": Interface(activation="softmax"), "outputs": "stages"}, "are of logits"),
        ({"interface": Interface(io="fp16"), "precisions": ("fp32",)}, "--io fp16 is for FP16"),
        ({"interface": Interface(io="fp16"), "precisions": ("fp16", "bf16")}, "--io fp16 is for"),
    ],
)
def test_requests_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request(Path("x"), **({"interface": Interface()} | changes))  # type: ignore[arg-type]


def test_the_command_line_says_so(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "--config", config, "--json"]
    for options in (["--topk", "0"], ["--io", "int8"], ["--topk", "2", "--outputs", "stages"]):
        assert cli.run([*command, *options]) == 2
        capsys.readouterr()
