"""The command line: exit codes, one-line errors, JSON, and files that stay as they were."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from swin_deploy.bundle.make import BundleRequest
from swin_deploy.cli import main as cli
from swin_deploy.cli import weights
from swin_deploy.core.files import package_version
from swin_deploy.engine.options import BuildOptions
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.engine.targets import TARGETS, find_target
from swin_deploy.measure.bench.run import BenchRequest
from swin_deploy.measure.cost import CostRequest
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.scaling.report import ScalingRequest
from swin_deploy.measure.sensitivity.report import SensitivityRequest
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.network.checkpoints.meaning import Meaning
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import Interface
from swin_deploy.pipeline.qat.request import QatOptions, Training
from swin_deploy.pipeline.request import ExportOptions, Int8Options
from swin_deploy.pipeline.run import RunResult


@pytest.mark.fault(34)
@pytest.mark.skipif(device_problem() is None, reason="a GPU is here, so the plan may run")
def test_a_plan_without_its_gpu_says_what_to_do(
    pocket_run: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["bench", "--engine", str(pocket_run.path / "engines" / "rtx-fp16.plan")]) == 4
    error = capsys.readouterr().err
    assert "no NVIDIA GPU" in error
    assert "try: a machine with that GPU, or swin-deploy export --target cpu" in error


def test_an_error_is_also_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", "--variant", "swim_t", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "E_CONFIG"
    assert error["exit_code"] == 2
    assert error["message"] == "unknown variant 'swim_t'"
    assert error["hint"].startswith("swin_t")


def test_a_bug_of_ours_keeps_its_traceback_and_is_still_an_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("swin_deploy.cli.options.find_variant", broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["export", "--variant", "swin_t", "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"code": "E_BUG", "exit_code": 1, "message": "ZeroDivisionError: a bug"}


@pytest.mark.fault(42)
def test_a_file_that_no_run_made_is_not_overwritten(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("precious")
    assert cli.run(["export", "--config", config, "--out", str(tmp_path / "mine")]) == 9
    assert "no run of this tool made it" in capsys.readouterr().err
    assert (tmp_path / "mine" / "model.onnx").read_text() == "precious"


@pytest.mark.fault(42)
@pytest.mark.parametrize("manifest", ['{"name": "a web page", "icons": []}', "{"])
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_the_manifest_of_something_else_and_what_is_beside_it_stay(
    config: str, tmp_path: Path, name: str, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_text("precious")
    if name == "manifest.json":
        (tmp_path / "model.onnx").unlink()
    (tmp_path / "manifest.json").write_text(manifest)
    assert cli.run(["export", "--config", config, "--out", str(tmp_path)]) == 9
    assert "manifest.json exists, and no run of this tool made it" in capsys.readouterr().err
    assert (tmp_path / "manifest.json").read_text() == manifest
    if name != "manifest.json":
        assert (tmp_path / name).read_text() == "precious"


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--debug", "export", "--variant", "swim_t"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_export_and_bench_end_to_end(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a run")
    assert cli.run(["export", "--config", config, "--out", out]) == 0
    text = capsys.readouterr().out
    for part in ("weights: RANDOM (seed 0)", "model.fp16.onnx", "onnx, simplified", "done in"):
        assert part in text
    assert cli.run(["export", "--config", config, "--out", out]) == 0
    assert "nothing to do, all stages current" in capsys.readouterr().out

    assert cli.run(["bench", "--engine", out, "--rounds", "2"]) == 0
    text = capsys.readouterr().out
    for part in (
        "images/s",
        "eager PyTorch fp32 (cpu)",
        "engine cpu-fp32",
        "agrees with eager",
        "not measured",
    ):
        assert part in text


def test_json_is_one_object(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert cli.run(["export", "--config", config, "--out", out, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verification"]["passed"]
    assert result["stages"]["engine:rtx-fp16"]["details"]["kernels"] > 5
    assert cli.run(["bench", "--engine", out, "--rounds", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measurements"][0]["speedup"] == 1.0


def test_a_failed_gate_prints_the_table_and_exits_5(
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from damage import DAMAGES

    DAMAGES["forgotten_scale"](monkeypatch)
    out = tmp_path / "run"
    arguments = ["export", "--config", config, "--out", str(out), "--precision", "fp32"]
    assert cli.run(arguments) == 5
    captured = capsys.readouterr()
    assert "FAILED: SQNR" in captured.err
    assert "error[E_VERIFY]: form, stage 1" in captured.err
    assert not (out / "engines").exists()
    assert cli.run([*arguments, "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert not error["verification"]["passed"]


def test_variants_and_doctor_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["variants"]) == 0
    assert "28,288,354" in capsys.readouterr().out
    assert cli.run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "export works here" in text
    assert "target rtx" in text
    assert cli.run(["variants", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["swin_b_384"]["config"]["window_size"] == 12
    assert cli.run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    states = {finding["name"]: finding for finding in report["findings"]}
    assert states["torch"]["ok"]
    assert not states["tensorrt"]["ok"]
    assert "pip install" in states["tensorrt"]["advice"]


def test_targets_say_what_is_here_and_how_to_get_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(TARGETS["tensorrt"], module="no_such_runtime")
    monkeypatch.setitem(TARGETS, "tensorrt", missing)
    assert cli.run(["targets"]) == 0
    text = capsys.readouterr().out
    lines = {line[2:].split()[0]: line for line in text.splitlines() if line.strip()}
    assert TARGETS.keys() <= lines.keys()
    assert lines["cpu"].split()[3:6] == [
        *("onnxruntime", package_version("onnxruntime"), "fp32,int8")
    ]
    assert "fp32,bf16,int8" in lines["cpu-openvino"]
    assert [name for name in TARGETS if lines[name][0] == "*"] == ["cpu", "rtx", "tensorrt"]
    assert lines["rtx-30"].split()[1:3] == ["tensorrt", "tensorrt_rtx"]
    assert lines["tensorrt"].split()[3:5] == ["no_such_runtime", "missing"]
    assert "its own GPU" in lines["tensorrt"]
    assert "the device itself" in lines["jetson-orin"]
    assert cli.run(["targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows.keys() == TARGETS.keys()
    assert rows["cpu"]["version"] == package_version("onnxruntime")
    assert rows["cpu"]["installed"]
    assert rows["rtx-30"]["compute_capability"] == "8.6"
    assert rows["jetson-orin"]["sources"]
    assert rows["jetson-orin"]["peaks"]["memory_gb_s"] == 204.8
    assert [name for name, row in rows.items() if row["here"]] == [find_target("here").name]
    assert not rows["tensorrt"]["installed"]
    assert rows["tensorrt"]["version"] is None
    assert rows["tensorrt"]["install"].startswith("pip install")


@pytest.mark.fault(34)
def test_doctor_fails_where_a_needed_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swin_deploy.engine import doctor

    real = doctor.package_version
    monkeypatch.setattr(
        doctor, "package_version", lambda name: None if name == "onnxsim" else real(name)
    )
    assert cli.run(["doctor"]) == 4
    assert "pip install onnxsim" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["", "export", "bench", "cost", "variants", "targets", "doctor"]
)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert f"swin-deploy {command or 'export'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "request_class", "records"),
    [
        ("bench", BenchRequest, {}),
        ("bundle", BundleRequest, {}),
        ("cost", CostRequest, {}),
        ("evaluate", EvaluateRequest, {}),
        (
            "export",
            ExportOptions,
            {
                "interface": Interface,
                "int8": Int8Options,
                "build": BuildOptions,
                "load": LoadOptions,
                "meaning": Meaning,
            },
        ),
        (
            "qat",
            QatOptions,
            {
                "int8": Int8Options,
                "training": Training,
                "load": LoadOptions,
                "meaning": Meaning,
            },
        ),
        ("scaling", ScalingRequest, {}),
        ("sensitivity", SensitivityRequest, {}),
        ("verify", VerifyRequest, {}),
    ],
)
def test_what_a_command_hands_on_are_fields_of_its_request(
    name: str, request_class: type, records: dict[str, type]
) -> None:
    """No type checker sees that."""
    command = cli.main.commands[name]
    assert command.callback is not None
    own = set(inspect.signature(command.callback).parameters)
    known = {field.name for field in fields(request_class)} - set(records)
    for record, kind in records.items():
        known |= {f"{record}_{field.name}" for field in fields(kind)}
    handed_on = {parameter.name for parameter in command.params} - own
    assert handed_on
    assert handed_on <= known


def test_parts_that_are_dropped_are_counted_by_where_they_leave_the_network() -> None:
    names = ("a.b.decoder.x", "a.b.decoder.y", "a.neck.z", "loss.w", "layers.0.blocks.1.attn_mask")
    assert weights._summary(names, ("state_dict", "a.b.net.")) == (
        "2 a.b.decoder, 1 a.neck, 1 loss, 1 attn_mask"
    )
    assert weights._summary((), ()) == "nothing"
