"""INT8 as a user gets it: calibrated, gated, compiled, and refused where it would be wrong."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from behind import behind, edit_head_bias
from conftest import Silent, trained_request
from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, InputError, VerificationError
from swin_deploy.core.files import read_json, sha256
from swin_deploy.engine.cost.kernels import products_not_in_int8
from swin_deploy.engine.cost.listing import from_dict
from swin_deploy.engine.runners.ends import BEFORE
from swin_deploy.graph.int8 import observe as calibrate
from swin_deploy.graph.int8.thresholds import TensorStatistics
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.network.interface import BatchRange, Interface, Precision
from swin_deploy.pipeline.conversions import int8_problems
from swin_deploy.pipeline.request import ExportRequest, Int8Options
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.report.console import show
from swin_deploy.report.measured_tables import bench_summary
from swin_deploy.report.run_tables import comparisons_summary

CPU, GPU = "model.int8.cpu.onnx", "model.int8.onnx"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 of the digits that the network was trained on, as files in class folders."""
    pixels, labels = load_mnist_5k(find_mnist_5k())
    folder = tmp_path_factory.mktemp("digits")
    for index in split_held_out(labels)[0][:: 4000 // 120][:120]:
        (folder / str(labels[index])).mkdir(exist_ok=True)
        Image.fromarray(pixels[index]).save(folder / str(labels[index]) / f"{index}.png")
    return folder


def request(out: Path, calibration: Path, **changes: object) -> ExportRequest:
    return trained_request(
        out,
        batch=BatchRange(low=1, high=8),
        precisions=("fp32", "int8"),
        targets=("cpu", "rtx"),
        int8=Int8Options(calibration=calibration, **changes),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def int8_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_export(request(tmp_path_factory.mktemp("int8"), digits), Silent())


def test_graphs_and_engines_are_quantised_and_agree(int8_run: RunResult) -> None:
    stages = int8_run.stages
    assert stages["calibrate"].details["images"] == 120
    sample = read_json(int8_run.path / "calibration.json")
    assert sample is not None
    assert len({image["sha256"] for image in sample["images"]}) == 120
    quantised = stages["int8:tensorrt"].details
    assert len(quantised["gemms"]) == 14
    assert len(quantised["attentions"]) == 6
    assert len(stages["int8:onnxruntime"].details["gemms"]) == 26
    for kind in ("tensorrt", "onnxruntime"):
        assert stages[f"int8:{kind}"].details["agreement"]["sqnr_db"] >= 30
    assert stages["verify"].details["converted_exactly"] == ["int8"]
    judged = {r["candidate"] for r in int8_run.verification["comparisons"] if r["floor_db"] == 20}
    assert judged == {"onnx, int8 for tensorrt", "onnx, int8 for onnxruntime", "engine cpu-int8"}


def test_a_row_without_a_floor_is_printed(int8_run: RunResult) -> None:
    rows = [row | {"floor_db": None} for row in int8_run.verification["comparisons"]]
    console = Console(file=io.StringIO(), width=160)
    show(comparisons_summary(rows), console)
    assert "engine cpu-int8" in console.file.getvalue()  # type: ignore[attr-defined]


def test_int8_is_not_judged_on_noise(int8_run: RunResult) -> None:
    rows = int8_run.verification["comparisons"]
    assert {r["inputs"] for r in rows if r["floor_db"] == 20} == {
        f"calibration x{size}" for size in range(1, 9)
    }
    finite = {r["inputs"] for r in rows if r["precision"] == "int8" and r["floor_db"] is None}
    assert {"black x1", "grey x1", "spikes x2"} <= finite


def test_every_quantised_product_multiplies_in_int8(int8_run: RunResult, tmp_path: Path) -> None:
    listing = int8_run.path / "engines" / "rtx-int8.kernels.json"
    quantised = int8_run.stages["int8:tensorrt"].details
    products = quantised["gemms"].values()
    data = read_json(listing)
    assert data is not None
    assert products_not_in_int8(from_dict(data, "listing"), products) == ()
    damaged = json.loads(json.dumps(data).replace('"Int8"', '"Half"'))
    assert set(products_not_in_int8(from_dict(damaged, "listing"), products)) == set(products)
    (tmp_path / "damaged.json").write_text(json.dumps(damaged))
    engine = replace(_engine(int8_run), fused_attentions=1)
    first, second = int8_problems(tmp_path / "damaged.json", quantised, engine)
    assert "14 of 14 quantised products are not multiplied in INT8" in first
    assert "1 of 6 quantised attentions" in second


def _engine(run: RunResult):  # type: ignore[no-untyped-def]
    from swin_deploy.engine.build import BuiltEngine
    from swin_deploy.engine.here import Fingerprint
    from swin_deploy.engine.options import Written

    details = run.stages["engine:rtx-int8"].details
    names = ("module", "version", "kernels", "fused_attentions", "activation_bytes")
    built_for = Fingerprint(**details["built_for"])
    made = Written(**details["written"])
    return BuiltEngine(built_for=built_for, written=made, **{name: details[name] for name in names})


def test_another_method_does_not_calibrate_again(
    int8_run: RunResult, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = run_export(request(out, digits), Silent())
    graph = sha256(out / CPU)
    assert run_export(request(out, digits), Silent()).current == tuple(first.stages)
    second = run_export(request(out, digits, method="minmax"), Silent())
    assert {"export", "simplify", "calibrate"} <= set(second.current)
    assert "int8:tensorrt" not in second.current
    assert sha256(out / CPU) != graph
    assert sha256(int8_run.path / CPU) == graph  # and the same request gives the same bytes


@pytest.mark.fault(23)
def test_a_calibration_that_does_not_fit_is_refused_with_the_worst_places(
    digits: Path, tmp_path: Path
) -> None:
    """Images of next to no contrast: a hundredth of the ranges that digits have."""
    generator = np.random.default_rng(0)
    faint = 0.01 * generator.standard_normal((120, 1, 32, 32), dtype=np.float32) - 0.42
    np.save(tmp_path / "faint.npy", faint)
    out = tmp_path / "run"
    run_export(replace(request(out, digits), images=digits), Silent())
    before = {p: sha256(p) for p in out.rglob("*") if p.is_file()}
    wrong = replace(request(out, tmp_path / "faint.npy"), images=digits)
    with pytest.raises(VerificationError, match=r"needs 20 dB .*Worst when quantised alone") as e:
        run_export(wrong, Silent())
    assert e.value.exit_code == 5
    assert "--int8-keep layers." in e.value.hint
    places = e.value.details["places"]
    assert len(places) == 26
    assert list(places.values()) == sorted(places.values())
    assert {p: sha256(p) for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", ["copies", "one colour"])
def test_a_calibration_that_shows_nothing_is_refused(
    kind: str, digits: Path, tmp_path: Path
) -> None:
    images = np.zeros((4, 1, 32, 32), np.float32)
    if kind == "one colour":
        images += np.arange(4, dtype=np.float32)[:, None, None, None]
    np.save(tmp_path / "black.npy", images)
    with pytest.raises(InputError, match=r"are all the same|are of one colour each"):
        run_export(request(tmp_path / "run", tmp_path / "black.npy"), Silent())
    assert not (tmp_path / "run" / GPU).exists()


def test_labelled_images_decide_in_place_of_the_distance(digits: Path, tmp_path: Path) -> None:
    request_ = request(tmp_path / "run", digits, labelled=digits)
    details = run_export(request_, Silent()).stages["int8:tensorrt"].details
    accuracy = details["accuracy"]
    assert accuracy["images"] == 120
    assert accuracy["fp32"]["top1"] >= 97
    assert accuracy["fp32"]["low"] < accuracy["fp32"]["top1"] < 100.1
    assert abs(accuracy["drop"]) <= 1


def only_one_class(bias: np.ndarray) -> np.ndarray:
    bias[0] = 1000
    return bias


def test_labelled_images_vouch_for_a_graph_and_not_for_its_engine(
    digits: Path, tmp_path: Path
) -> None:
    labelled = request(tmp_path / "run", digits, labelled=digits, max_drop=100.0, images=20)
    asked = replace(labelled, targets=("cpu",))
    adapt = behind("engine:cpu-int8", "engines/cpu-int8.onnx", edit_head_bias(only_one_class))
    with pytest.raises(VerificationError, match="engine cpu-int8 disagrees") as caught:
        run_export(asked, Silent(), adapt)
    rows = caught.value.details["verification"]["comparisons"]
    assert {row["candidate"] for row in rows if not row["passed"]} == {"engine cpu-int8"}
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.fault(23)
def test_an_accuracy_that_falls_too_far_is_refused(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every range is a hundredth of what was measured."""
    measured = TensorStatistics.threshold
    monkeypatch.setattr(TensorStatistics, "threshold", lambda *given: measured(*given) / 100)
    wrong = request(tmp_path / "run", digits, labelled=digits, max_drop=1.0)
    with pytest.raises(VerificationError, match=r"top-1 falls from .* points, and 1 are allowed"):
        run_export(wrong, Silent())
    assert not (tmp_path / "run" / GPU).exists()


def test_places_are_kept_and_added(digits: Path, tmp_path: Path) -> None:
    chosen = request(tmp_path / "run", digits, keep=("layers.0.*",), also=("head", "embed"))
    stages = run_export(chosen, Silent()).stages
    gemms = stages["int8:onnxruntime"].details["gemms"]
    assert {"head", "layers.1.blocks.0.attn.qkv"} <= gemms.keys()
    assert not [name for name in gemms if name.startswith("layers.0.")]


@pytest.mark.parametrize(
    ("interface", "precisions", "output"),
    [
        (Interface(io="uint8", topk=3), ("fp32", "int8"), "scores"),
        (Interface(io="fp16"), ("fp32", "fp16", "int8"), "logits"),
    ],
    ids=["pixels and the best classes", "half ends, of FP16 alone"],
)
def test_other_inputs_and_outputs(
    interface: Interface,
    precisions: tuple[Precision, ...],
    output: str,
    digits: Path,
    tmp_path: Path,
) -> None:
    plain = request(tmp_path / "run", digits)
    asked = replace(plain, interface=interface, precisions=precisions)
    rows = run_export(asked, Silent()).verification["comparisons"]
    judged = {r["candidate"]: r["output"] for r in rows if r["floor_db"] == 20}
    names = ("onnx, int8 for tensorrt", "onnx, int8 for onnxruntime", "engine cpu-int8")
    before = [f"{name}{BEFORE}" for name in names if output != "logits"]
    assert judged == dict.fromkeys(names, output) | dict.fromkeys(before, "logits")


def test_bench_measures_an_int8_engine(int8_run: RunResult) -> None:
    spec = BenchRequest(engine=int8_run.path, batches=(2,), rounds=2)
    report = bench_engine(spec, lambda text: None)
    assert "engine cpu-int8" in {m["name"] for m in report["measurements"]}
    floors = {c["candidate"]: c["floor_db"] for c in report["checks"]}
    assert floors == {"engine cpu-fp32": 110, "engine cpu-int8": None}
    console = Console(file=io.StringIO(), width=160)
    show(bench_summary(report), console)
    assert "engine cpu-int8 gives numbers" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"int8": Int8Options()}, InputError, "needs images to calibrate on"),
        ({"precisions": ("fp32",)}, ConfigError, "INT8, which is not among fp32"),
        ({"int8": Int8Options(method="mse")}, ConfigError, "and no images"),
    ],
    ids=["no images", "not asked for", "options alone"],
)
def test_a_request_without_data_is_refused(
    changes: dict[str, object], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        replace(request(tmp_path, tmp_path), **changes)  # type: ignore[arg-type]


def test_the_command_refuses_int8_without_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--variant", "swin_pocket", "--precision", "int8", "--out"]
    assert cli.run([*arguments, str(tmp_path / "run")]) == 3
    assert "--calibration" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_calibration_that_was_interrupted_goes_on(
    int8_run: RunResult, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SAVE_EVERY_S", 0.0)
    out, first = tmp_path / "run", Silent()

    class Interrupted(Silent):
        def advanced(self, what: str, done: int, total: int) -> None:
            if done >= 40:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_export(request(out, digits), Interrupted())
    assert not (out / GPU).exists()
    run_export(request(out, digits), first)
    assert any("goes on after" in note for note in first.notes)
    later = Silent()  # in which nothing goes on
    assert "calibrate" in run_export(request(out, digits), later).current
    assert not any("goes on after" in note for note in later.notes)
    for name in (CPU, GPU):  # the same statistics, to the last count
        assert sha256(out / name) == sha256(int8_run.path / name)
