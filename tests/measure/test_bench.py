"""The stopwatch on runners of known speed, and what bench may be pointed at."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from conftest import POCKET
from manifests import edit_manifest
from providers import AZURE, needs_azure
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    FileAccessError,
    InputError,
    SwinDeployError,
    UnsafeError,
    VerificationError,
)
from swin_deploy.data.images import InputSet, make_noise
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.export import Halved, export_plainly
from swin_deploy.measure.bench import BASELINES
from swin_deploy.measure.bench.baselines import EagerNetwork, other_baselines
from swin_deploy.measure.bench.run import BenchRequest, bench_engine, require_speed
from swin_deploy.measure.bench.statistics import (
    Measurement,
    is_unstable,
    judge,
    stability_warning,
    summarise,
)
from swin_deploy.measure.bench.stopwatch import BenchSpec, Entrant, run_bench
from swin_deploy.measure.bench.subject import Subject, open_subject
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.model.build import build_model, output_names, with_outputs
from swin_deploy.pipeline.run import RunResult


class Sleeper:
    """A runner that takes a known time for a call."""

    def __init__(self, name: str, call_s: float, offset: float = 0.0) -> None:
        self.name, self.call_s, self.offset = name, call_s, offset
        self.batch = BatchRange(low=1, high=8)
        self.order: list[str] = []

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        self.order.append(self.name)
        time.sleep(self.call_s)
        return {"logits": images.reshape(len(images), -1)[:, :5] + np.float32(self.offset)}


def images(count: int) -> InputSet:
    return make_noise(count, 3, (8, 8))


def measure(*candidates: Sleeper, spec: BenchSpec | None = None) -> list[Measurement]:
    baseline = Sleeper("baseline", 0.02)
    spec = spec or BenchSpec(batches=(4,), rounds=4)
    entrants = [Entrant(candidate, "fp32") for candidate in candidates]
    first = Entrant(baseline, "fp32", "baseline")
    return list(run_bench(first, entrants, images, spec, lambda text: None).measurements)


def test_a_known_time_is_measured_and_compared() -> None:
    """Sleeping is exact from below only, so the bounds leave room for a busy machine above."""
    baseline, faster = measure(Sleeper("faster", 0.01))
    assert baseline.p50_ms >= 20
    assert faster.p50_ms >= 10
    assert baseline.speedup == 1.0
    assert 1.3 < faster.speedup <= 2.1
    assert faster.speedup_low <= faster.speedup <= faster.speedup_high
    assert baseline.images_per_s <= 4 / 0.02
    assert baseline.calls == 4 * round(0.2 / 0.02) or baseline.calls < 40


def test_percentiles_are_in_order_and_every_batch_is_measured() -> None:
    rows = measure(Sleeper("x", 0.001), spec=BenchSpec(batches=(1, 4), rounds=2))
    assert [(row.name, row.batch) for row in rows] == [
        ("baseline", 1),
        ("x", 1),
        ("baseline", 4),
        ("x", 4),
    ]
    for row in rows:
        assert row.p50_ms <= row.p90_ms <= row.p99_ms


def test_runners_take_turns() -> None:
    log: list[str] = []
    one, other = Sleeper("one", 0.1), Sleeper("other", 0.1)
    one.order = other.order = log
    entrants = Entrant(one, "fp32", "baseline"), [Entrant(other, "fp32")]
    run_bench(*entrants, images, BenchSpec(rounds=8, warmup=1), lambda text: None)
    counted = log[4:]  # after the comparison and the warm-up of both
    turns = [counted[index : index + 4] for index in range(0, len(counted), 4)]
    assert len(turns) == 8
    assert all(sorted(turn) == ["one", "one", "other", "other"] for turn in turns)
    assert {turn[0] for turn in turns} == {"one", "other"}  # neither always follows the other


def test_a_fast_engine_with_wrong_outputs_is_not_timed() -> None:
    with pytest.raises(VerificationError, match="wrong disagrees"):
        measure(Sleeper("wrong", 0.001, offset=0.1))


@pytest.mark.fault(36)
def test_a_batch_that_a_runner_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes a batch of 1:8, not 16"):
        measure(Sleeper("x", 0.001), spec=BenchSpec(batches=(16,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batches": ()}, "batches"), ({"batches": (0,)}, "batches"), ({"rounds": 1}, "rounds = 1")],
)
def test_a_spec_without_meaning_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BenchSpec(**settings)  # type: ignore[arg-type]


class Machine:
    """A clock that only runners advance, by a known time and seeded noise: turns, and calls."""

    def __init__(self, seed: int, turn: float = 0.05, call: float = 0.03) -> None:
        self.now = 0.0
        self._noise, self._turn, self._call = np.random.default_rng(seed), turn, call
        self._slow, self._until = 1.0, 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        if self.now >= self._until:  # another program comes and goes, whoever is running
            self._slow = float(np.exp(self._turn * self._noise.standard_normal()))
            self._until = self.now + 0.3
        self.now += seconds * self._slow * float(np.exp(self._call * self._noise.standard_normal()))


class Worker(Sleeper):
    """A runner on such a machine."""

    def __init__(self, name: str, call_s: float, machine: Machine) -> None:
        super().__init__(name, call_s)
        self.machine = machine

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        self.machine.spend(self.call_s)
        return {"logits": images.reshape(len(images), -1)[:, :5]}


def on_machine(seed: int, factor: float, turn: float = 0.05) -> Measurement:
    machine = Machine(seed, turn)
    first, other = Worker("a", 0.02, machine), Worker("b", 0.02 * factor, machine)
    spec = BenchSpec(clock=machine)
    entrants = Entrant(first, "fp32", "baseline"), [Entrant(other, "fp32")]
    return run_bench(*entrants, images, spec, lambda text: None).measurements[1]


def test_a_known_time_is_measured_within_two_percent() -> None:
    for seed in range(20):
        assert on_machine(seed, 1.5, turn=0.01).p50_ms == pytest.approx(30, rel=0.02)


def test_a_tenth_slower_is_called_slower_and_equal_ones_are_not() -> None:
    slower = [on_machine(seed, 1.1).verdict for seed in range(20)]
    equal = [on_machine(seed, 1.0).verdict for seed in range(20, 40)]
    faster = [on_machine(seed, 1 / 1.1).verdict for seed in range(40, 60)]
    assert slower.count("slower") >= 19
    assert equal.count("not told apart") >= 19
    assert faster.count("faster") >= 19


def test_the_interval_holds_the_ratio() -> None:
    rows = [on_machine(seed, 1.25) for seed in range(20)]
    assert sum(row.speedup_low <= 0.8 <= row.speedup_high for row in rows) >= 17
    assert all(row.speedup_low <= row.speedup <= row.speedup_high for row in rows)


def turns_of(*medians_ms: float) -> list[list[float]]:
    return [[value / 1e3] * 3 for value in medians_ms]


def test_the_figures_of_a_measurement() -> None:
    row = summarise("x", "candidate", 4, [[0.01, 0.03], [0.02, 0.02]], turns_of(40, 40))
    assert (row.calls, row.p50_ms, row.mean_ms) == (4, pytest.approx(20), pytest.approx(20))
    assert row.std_ms == pytest.approx(8.165, abs=1e-3)  # sqrt((100 + 100) / 3)
    assert row.images_per_s == pytest.approx(4 * 4 / 0.08)
    assert row.speedup == pytest.approx(2)
    assert row.p95_ms == pytest.approx(np.percentile([10, 20, 20, 30], 95))


def test_a_verdict_needs_all_but_a_hundredth() -> None:
    assert judge(np.array([1.2] * 20)) == "faster"
    assert judge(np.array([0.8] * 20)) == "slower"
    assert judge(np.array([1.2] * 10 + [0.8] * 10)) == "not told apart"


@pytest.mark.fault(44)
def test_a_noisy_measurement_says_so() -> None:
    quiet = summarise("x", "candidate", 1, turns_of(*[10] * 8), turns_of(*[20] * 8))
    noisy = summarise("y", "candidate", 1, turns_of(*[10, 14] * 4), turns_of(*[20] * 8))
    assert stability_warning([quiet]) == []
    (text,) = stability_warning([quiet, noisy])
    assert "1 of 2 measurements are unstable" in text
    assert noisy.verdict == "faster"  # 20 over 10 or 14, whatever the machine did
    assert "y at batch 1 (17%" in text
    assert not quiet.unstable
    assert is_unstable(quiet.variation, 1.6, on_gpu=False)


def test_a_gpu_is_held_to_tighter_limits() -> None:
    turns = turns_of(*[10, 10.8] * 4)
    assert not summarise("x", "candidate", 1, turns, turns).unstable
    row = summarise("x", "candidate", 1, turns, turns, on_gpu=True)
    assert row.unstable
    bound = replace(row, gpu_ms=1.0, enqueue_ms=0.9, upload_ms=0.8, download_ms=0.4).warnings
    assert ["launches" in bound[0], "copies" in bound[1]] == [True, True]
    assert replace(row, gpu_ms=1.0, enqueue_ms=0.7, upload_ms=0.1).warnings == []


@pytest.fixture
def run_copy(pocket_run: RunResult, tmp_path: Path) -> Path:
    return shutil.copytree(pocket_run.path, tmp_path / "run")


def test_a_run_folder_measures_its_engines_and_keeps_the_result(run_copy: Path) -> None:
    request = BenchRequest(engine=run_copy, batches=(1, 3), rounds=2)
    report = bench_engine(request, lambda text: None)
    assert [(row["name"], row["batch"]) for row in report["measurements"]] == [
        ("eager PyTorch fp32 (cpu)", 1),
        ("engine cpu-fp32", 1),
        ("eager PyTorch fp32 (cpu)", 3),
        ("engine cpu-fp32", 3),
    ]
    assert all(check["passed"] for check in report["checks"])
    assert list(report["not_run"]) == ["engine rtx-fp16"]
    assert json.loads((run_copy / "bench.json").read_text()) == json.loads(json.dumps(report))


def test_a_file_of_another_kind_is_not_overwritten(run_copy: Path) -> None:
    (run_copy / "bench.json").write_text('{"mine": 1}')
    with pytest.raises(FileAccessError, match="is no report of this command; try: move it away"):
        bench_engine(BenchRequest(engine=run_copy, rounds=2), lambda text: None)
    assert (run_copy / "bench.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize("name", ["engines/cpu-fp32.onnx", "model.onnx", "model.fp16.onnx"])
def test_one_file_of_a_run_is_measured_alone(run_copy: Path, name: str) -> None:
    report = bench_engine(
        BenchRequest(engine=run_copy / name, batches=(1,), rounds=2), lambda text: None
    )
    assert len(report["measurements"]) == 2
    assert len(report["checks"]) == 1


def test_the_batches_of_the_run_are_the_default(run_copy: Path) -> None:
    report = bench_engine(BenchRequest(engine=run_copy, rounds=2), lambda text: None)
    assert [row["batch"] for row in report["measurements"]] == [1, 1, 4, 4]


def test_an_onnx_file_from_elsewhere_needs_its_network_named(
    run_copy: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "elsewhere" / "x.onnx"
    foreign.parent.mkdir()
    shutil.copy(run_copy / "model.onnx", foreign)
    with pytest.raises(ConfigError, match="belongs to no run"):
        open_subject(foreign, None, None)
    report = bench_engine(BenchRequest(engine=foreign, rounds=2, variant=POCKET), lambda text: None)
    assert report["checks"] == []
    assert "were not compared" in report["warnings"][-1]


@needs_azure
def test_a_provider_runs_the_graphs_of_a_run_and_not_its_engines(run_copy: Path) -> None:
    with pytest.raises(ConfigError, match="runs ONNX files") as caught:
        open_subject(run_copy, 1, None, "azure")
    assert f"{run_copy / 'model.onnx'} --provider {AZURE}" in caught.value.hint
    subject = open_subject(run_copy / "model.onnx", 1, None, "azure")
    assert [runner.name for runner, _ in subject.candidates] == [f"model.onnx on {AZURE}"]
    assert not subject.on_gpu
    with pytest.raises(EnvironmentMissingError, match="computes none of the"):
        bench_engine(
            BenchRequest(engine=run_copy / "model.onnx", rounds=2, provider="azure"),
            lambda text: None,
        )


def test_what_runners_note_is_a_warning(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "swin_deploy.measure.bench.subject.Subject.notes",
        property(lambda subject: ["x: 1 node on the CPU"]),
    )
    request = BenchRequest(engine=run_copy / "model.onnx", batches=(1,), rounds=2)
    assert "x: 1 node on the CPU" in bench_engine(request, lambda text: None)["warnings"]


def test_notes_say_of_which_runner_they_are() -> None:
    runner = OnnxRuntimeRunner(Path("x.onnx"), name="x")
    subject = Subject(POCKET.config, candidates=[(runner, "fp32")])
    assert subject.notes == []
    runner.notes.append("1 node on the CPU")
    assert subject.notes == ["x: 1 node on the CPU"]


def test_an_unknown_provider_exits_with_4(
    pocket_run: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(pocket_run.path / "model.onnx")
    assert cli.run(["bench", "--engine", path, "--provider", "nonesuch"]) == 4
    assert "no execution provider 'nonesuch'" in capsys.readouterr().err


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("name", "spoil", "error", "message"),
    [
        ("engines/rtx-fp16.plan", None, EnvironmentMissingError, "no NVIDIA GPU"),
        ("engines/rtx-fp16.plan", truncate, UnsafeError, "was changed"),
        ("engines/rtx-fp16.plan", flip_a_bit, UnsafeError, "was changed"),
        ("engines/cpu-fp32.onnx", flip_a_bit, UnsafeError, "was changed"),
        ("model.onnx", truncate, UnsafeError, "was changed"),
        ("engines/cpu-fp32.onnx", Path.unlink, InputError, "does not exist"),
        ("manifest.json", None, UnsafeError, "is not an engine"),
    ],
)
def test_a_file_that_is_not_as_recorded_is_refused(
    run_copy: Path,
    name: str,
    spoil: Callable[[Path], None] | None,
    error: type[SwinDeployError],
    message: str,
) -> None:
    if spoil is not None:
        spoil(run_copy / name)
    with pytest.raises(error, match=message):
        open_subject(run_copy / name, None, None)


@pytest.mark.fault(14, 33)
@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("x.plan", b"anything", UnsafeError, "is listed in no manifest"),
        ("x.plan", b"", InputError, "is empty"),
        ("x.onnx", b"", InputError, "is empty"),
        ("x.onnx", b"\x08\x07\x12", InputError, "not a valid ONNX model"),
        ("x.onnx", b"version https://git-lfs.github.com/spec/v1\n", InputError, "git-lfs"),
        ("x.onnx", b"<html></html>", InputError, "web page"),
    ],
)
def test_a_file_from_elsewhere_is_looked_at_first(
    tmp_path: Path, name: str, content: bytes, error: type[SwinDeployError], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        open_subject(tmp_path / name, None, POCKET)


@pytest.mark.parametrize(
    "changes", [{"variant": {"embed_dim": "wide"}}, {"outputs": "boxes"}, {"weights": {}}]
)
def test_a_manifest_without_a_network_is_refused(
    run_copy: Path, changes: dict[str, object]
) -> None:
    edit_manifest(run_copy, lambda manifest: manifest.update(changes))
    with pytest.raises(InputError, match=f"{next(iter(changes))}.* is .*, not"):
        open_subject(run_copy, None, None)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # within torch.compile
def test_a_compiled_network_computes_the_same() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    noise = make_noise(2, 3, (2, 2)).images
    with TorchRunner(model, compiled=True) as compiled, TorchRunner(model) as eager:
        pairs = compiled.run(noise)["logits"], eager.run(noise)["logits"]
    np.testing.assert_allclose(*pairs, rtol=1e-5)


def test_baselines_stand_beside_the_engines(run_copy: Path) -> None:
    others = tuple(name for name in BASELINES if name != "compile")  # half a minute of C++
    request = BenchRequest(engine=run_copy, batches=(2,), rounds=2, baselines=others)
    report = bench_engine(request, lambda text: None)
    assert [(row["name"], row["role"]) for row in report["measurements"]] == [
        ("eager PyTorch fp32 (cpu)", "baseline"),
        ("eager PyTorch bf16 (cpu)", "baseline"),
        ("naive ONNX cpu-fp32", "baseline"),
        ("engine cpu-fp32", "candidate"),
    ]
    distances = {check["candidate"]: check["sqnr_db"] for check in report["checks"]}
    assert distances["naive ONNX cpu-fp32"] > 110
    assert 20 < distances["eager PyTorch bf16 (cpu)"] < 60
    assert report["conditions"]["affinity"] == sorted(os.sched_getaffinity(0))


def test_a_speed_that_is_not_reached_is_an_error() -> None:
    row = {"name": "engine x", "role": "candidate", "batch": 1, "speedup": 1.5}
    row |= {"speedup_low": 1.2, "speedup_high": 1.8}
    report = {"measurements": [row | {"name": "eager", "role": "baseline", "speedup_low": 1}, row]}
    require_speed(report, 1.2)
    with pytest.raises(VerificationError, match=r"engine x at batch 1 is 1.50 .* 1.20 to 1.80"):
        require_speed(report, 1.3)


def test_the_plain_export_of_maps_in_half_has_their_names_and_float32_ends(tmp_path: Path) -> None:
    """What a GPU is measured against; only its file can be looked at here."""
    maps = with_outputs(build_model(POCKET.config), "stages", "pocket")
    names, path = output_names(maps), tmp_path / "naive.onnx"
    export_plainly(Halved(maps).eval(), POCKET.config, BatchRange(), path, outputs=names)
    graph = onnx.load(path).graph
    assert tuple(output.name for output in graph.output) == names
    ends = [*graph.input, *graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in {weight.data_type for weight in graph.initializer}


def test_a_network_that_cannot_be_compiled_here_is_left_out_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compile_nothing(model: nn.Module, **options: object) -> Callable[[Tensor], Tensor]:
        def call(image: Tensor) -> Tensor:
            raise TorchDynamoException("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    network = EagerNetwork(
        model=build_model(POCKET.config), config=POCKET.config, device="cpu", threads=1
    )
    not_run: dict[str, str] = {}
    with other_baselines(
        ("eager-half", "compile"), network, (1,), (), lambda text: None, not_run
    ) as found:
        assert [entrant.runner.name for entrant in found] == ["eager PyTorch bf16 (cpu)"]
    assert "no C++ compiler" in not_run["torch.compile PyTorch fp32 (cpu)"]


def test_what_was_measured_of_a_run_that_cannot_be_written_is_not_lost(
    pocket_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(pocket_run.path, tmp_path / "run"))
    (run / ".bench.json.lock").unlink(missing_ok=True)
    (run / ".bench.json.lock").mkdir()
    engine = run / "engines" / "cpu-fp32.onnx"
    assert cli.run(["bench", str(engine), "--batches", "1", "--rounds", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["measurements"]
    assert any(text.startswith("bench.json was not kept: ") for text in report["warnings"])
