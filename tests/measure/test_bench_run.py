"""``swin-deploy bench`` of runs and of files: what is timed, beside what, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
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
from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.export import Halved, export_plainly
from swin_deploy.measure.bench import BASELINES
from swin_deploy.measure.bench.baselines import EagerNetwork, other_baselines
from swin_deploy.measure.bench.run import BenchRequest, bench_engine, require_speed
from swin_deploy.measure.bench.subject import Subject, open_subject
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model, output_names, with_outputs
from swin_deploy.pipeline.run import RunResult


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
    with pytest.raises(FileAccessError, match=r"bench\.json"):
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
    with pytest.raises(VerificationError, match=r"1\.50 .* 1\.20 to 1\.80"):
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
