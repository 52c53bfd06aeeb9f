"""``scripts/gpu-check`` to its end without a GPU, and what it makes of commands that fail."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from gpu_check import command, commands, probe
from gpu_check.commands import CommandError, bench, run_command
from gpu_check.report import Report, line_of
from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.engine.runners.cuda import device_problem

needs_no_gpu = pytest.mark.skipif(device_problem() is None, reason="what it says without a GPU")


@pytest.mark.fault(34)
@needs_no_gpu
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
def test_without_a_gpu_it_says_why_of_each_part(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")  # which it sets
    out = tmp_path / "found" / "gpu-check.json"
    assert command.main([config, "--max-batch", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["network"] == config
    parts = {(part["group"], part["name"]): part for part in found["parts"]}
    assert all(part["says"] for part in parts.values())
    assert not [part for part in parts.values() if part["state"] == "failed"]
    missing = {name for name, part in parts.items() if part["state"] == "not run"}
    timed = {(group, name) for group, name in parts if group == "bench"}
    assert {name for _, name in timed} == {
        "rtx, batch 1",
        *(
            f"cpu, batch 1, {graph} on {provider}"
            for graph in ("model.onnx", "model.fp16.onnx")
            for provider in ("cuda", "tensorrt")
        ),
    }
    assert timed <= missing
    assert ("here", "GPU") in missing
    assert device_problem() in parts["verify", "rtx, batch 1"]["says"]
    (engine,) = parts["cost", "rtx, batch 1"]["details"]["engines"]
    assert engine["totals"]["kernels"] > 0
    assert f"{engine['totals']['kernels']} kernels" in parts["build", "rtx, batch 1"]["says"]
    vouched = parts["verify", "cpu, batch 1"]
    assert vouched["state"] == "passed"
    assert {row["kind"] for row in vouched["details"]["checks"]} >= {"outputs"}


def test_each_batch_and_target_has_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with a GPU, where one engine is wrong."""
    asked: list[tuple[str, ...]] = []

    def answer(*arguments: str | Path) -> dict[str, Any]:
        asked.append(tuple(map(str, arguments)))
        if arguments[0] == "verify" and "rtx-1-4" in str(arguments[1]):
            raise CommandError("swin_deploy verify exits with 5: 12 dB", {"exit_code": 5})
        return {
            "export": {"stages": {}, "header": {"never_run": {}}},
            "cost": {"engines": []},
            "verify": {"not_run": {}, "checks": [{"sqnr_db": 58.0}, {"sqnr_db": None}]},
            "bench": {"measurements": [], "warnings": [], "not_run": {"x": "a reason"}},
        }[str(arguments[0])]

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    monkeypatch.setattr(commands, "run_command", answer)
    monkeypatch.setattr(command, "require_gpu", lambda: None)
    out = tmp_path / "x.json"
    options = ["--max-batch", "4", "--targets", "cpu", "rtx", "--rounds", "3", "--out", str(out)]
    assert command.main(["swin_pocket", *options]) == 5
    parts = [p for p in json.loads(out.read_text())["parts"] if p["group"] != "here"]
    states = {(part["group"], part["name"]): part["state"] for part in parts}
    assert [name for name, state in states.items() if state != "passed"] == [
        ("verify", "rtx, batch 1:4")
    ]
    assert states["bench", "rtx, batch 1:4"] == "passed"  # the times are told all the same
    exports = [words for words in asked if words[0] == "export"]
    assert [words[1:7] for words in exports] == [
        ("--variant", "swin_pocket", "--batch", batch, "--target", target)
        for batch in ("1", "1:4")
        for target in ("cpu", "rtx")
    ]
    providers = [words for words in asked if "--provider" in words]
    assert len(providers) == 2 * 2 * 2
    assert all(words[2:4] == ("--rounds", "3") for words in asked if words[0] == "bench")
    assert next(part["says"] for part in parts if part["group"] == "verify") == (
        "2 comparisons, at least 58.0 dB"
    )


BARE = """
import sys
for name in ("click", "onnx", "onnxruntime", "onnxscript", "PIL", "pydantic", "rich", "tensorrt",
             "tensorrt_rtx", "torch"):
    sys.modules[name] = None  # importing it is an ImportError
from gpu_check.command import main
sys.exit(main(sys.argv[1:]))
"""


def test_with_numpy_alone_it_exits_with_4(config: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, config, "--out", str(tmp_path / "x.json")],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (4, "")
    parts = json.loads((tmp_path / "x.json").read_text())["parts"]
    assert [part["state"] for part in parts if part["name"] != "GPU"] == ["not run"] * 5
    assert parts[-1]["name"] == "what the commands import"
    assert "not installed: click, onnx, " in parts[-1]["says"]


def test_the_launcher_starts() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "gpu-check", "--help"],
        env=os.environ | {"PYTHON": sys.executable},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Exit codes" in done.stdout


def test_parts_become_an_exit_code(tmp_path: Path) -> None:
    def raising(error: Exception) -> Callable[[], Any]:
        def work() -> Any:
            raise error

        return work

    report = Report(tmp_path / "x.json", {"head": 1})
    assert report.run("here", "a", lambda: ("fine", {}))
    missing = raising(EnvironmentMissingError("no GPU", "buy one"))
    assert not report.run("verify", "b", missing)
    assert report.run("build", "c", lambda: ("built", {}))
    assert report.exit_code == 4
    assert report.run("verify", "d", lambda: ("fine", {"n": 1}))
    assert report.exit_code == 0
    assert not report.run("bench", "e", raising(ValueError("a bug\nof two lines")))
    assert report.exit_code == 5
    states = [part.state for part in report.parts]
    assert states == ["passed", "not run", "passed", "passed", "failed"]
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["head"] == 1
    assert [part["state"] for part in written["parts"]] == states
    assert "ValueError" in written["parts"][-1]["details"]["traceback"]
    assert "\n" not in line_of(report.parts[-1])
    assert list(report.summary()) == [f"3 passed, 1 failed, 1 not run: {tmp_path / 'x.json'}"]


def test_a_command_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=r"verify exits with 3: .*no such run") as caught:
        run_command("verify", tmp_path / "no such run")
    assert caught.value.details["error"]["exit_code"] == 3
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\necho a native line >&2\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(CommandError, match="cost exits with -11: a native line"):
        run_command("cost", tmp_path)


def test_the_bench_takes_turns_and_prints_a_table(
    fixed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(fixed_run, tmp_path / "run")
    says, details = bench(run / "model.onnx", 2, (), lambda: None)
    assert says == "2 in turns"
    assert {row["batch"] for row in details["measurements"]} == {2}
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "runner"
    assert first.startswith("eager PyTorch fp32 (cpu)")
    assert second.startswith("model.onnx")
    with pytest.raises(EnvironmentMissingError, match="has no execution provider 'no_such'"):
        bench(run / "model.onnx", 2, ("--provider", "no_such"), lambda: None)
    with pytest.raises(EnvironmentMissingError, match="nothing on a GPU"):
        bench(run / "model.onnx", 2, (), nothing_on_a_gpu)


def nothing_on_a_gpu() -> None:
    raise EnvironmentMissingError("nothing on a GPU")


@pytest.mark.fault(34)
def test_a_library_that_breaks_at_import_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("raise OSError('libsomething.so.1: not found')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentMissingError, match=r"libsomething\.so\.1: not found"):
        probe.find_library("broken_library")()
    with pytest.raises(EnvironmentMissingError, match="cannot import no_such_library"):
        probe.find_library("no_such_library")()
