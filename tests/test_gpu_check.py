"""``scripts/gpu-check`` to its end without a GPU, and its gates with something wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from gpu_check import command, probe
from gpu_check.report import Report, line_of
from gpu_check.slots import verify_slots
from gpu_check.speed import bench_lines, time_all
from swin_deploy.batches import BatchRange
from swin_deploy.errors import EnvironmentMissingError, InputError, VerificationError
from swin_deploy.graph.plain import Halved
from swin_deploy.model.build import build_model
from swin_deploy.pipeline.request import read_config
from swin_deploy.runners.cuda import device_problem
from swin_deploy.runners.torch_eager import TorchRunner

needs_no_gpu = pytest.mark.skipif(device_problem() is None, reason="what it says without a GPU")


@pytest.mark.fault(34)
@needs_no_gpu
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
def test_without_a_gpu_it_says_why_of_each_part(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")  # which it sets
    out = tmp_path / "found" / "gpu-check.json"
    options = ["--max-batch", "2", "--forms", "ours", "--precisions", "fp32", "--out", str(out)]
    assert command.main([config, *options]) == 0
    found = json.loads(out.read_text())
    assert found["network"] == config
    parts = {(part["group"], part["name"]): part for part in found["parts"]}
    assert all(part["says"] for part in parts.values())
    assert not [part for part in parts.values() if part["state"] == "failed"]
    missing = {name for name, part in parts.items() if part["state"] == "not run"}
    assert {("here", "GPU"), ("bench", "batch 1"), ("bench", "batch 2")} <= missing
    assert {("verify", f"eager {name} on torch cuda") for name in ("fp32", "fp16")} <= missing
    for batch in ("1", "1:2"):
        graph = f"ours fp32 batch {batch}"
        assert parts["graph", graph]["state"] == "passed"
        assert parts["build", f"tensorrt_rtx, {graph}"]["details"]["kernels"] > 0
        for how in ("with CUDA graph", "without"):
            part = parts["verify", f"tensorrt_rtx, {graph}, {how}"]
            assert part["says"] == device_problem()
    vouched = parts["verify", "onnxruntime CPUExecutionProvider, ours fp32 batch 1:2"]
    assert vouched["state"] == "passed"
    assert [row["batch"] for row in vouched["details"]["rows"]] == [1, 2]


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
    assert parts[-1]["name"] == "libraries of an export"
    assert "None in sys.modules" in parts[-1]["says"]


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


IMAGES = np.random.default_rng(0).standard_normal((4, 6), dtype=np.float32)
EXPECTED = IMAGES[:, :5] * 2
Answer = Callable[[np.ndarray], np.ndarray]


class Answers:
    """A runner that answers with what a function makes of the images."""

    name = "answers"

    def __init__(self, answer: Answer, low: int = 1, high: int = 4) -> None:
        self.answer = answer
        self.batch = BatchRange(low=low, high=high)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        return images

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": self.answer(images)}


def right(images: np.ndarray) -> np.ndarray:
    return images[:, :5] * 2


def verify(answer: Answer, **batch: int) -> tuple[str, dict[str, Any], None]:
    return verify_slots(Answers(answer, **batch), IMAGES, EXPECTED, "fp16")  # type: ignore[arg-type]


def test_every_batch_size_is_verified() -> None:
    says, details, _ = verify(right)
    assert [row["batch"] for row in details["rows"]] == [1, 2, 3, 4]
    assert says == "batch 1 to 4, at least inf dB"
    assert json.dumps(details, allow_nan=False)
    _, details, _ = verify(right, low=2, high=9)
    assert [row["batch"] for row in details["rows"]] == [2, 3, 4]


def last_slot(images: np.ndarray) -> np.ndarray:
    logits = right(images)
    if len(images) > 1:
        logits[-1] += 1
    return logits


def at_three(images: np.ndarray) -> np.ndarray:
    return right(images) + (len(images) == 3)


def neighbours(images: np.ndarray) -> np.ndarray:
    return np.roll(right(images), 1, axis=0)


def not_finite(images: np.ndarray) -> np.ndarray:
    return right(images) * np.nan


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (last_slot, r"batch 2, different: .*batch 2, same: .*batch 2, slots: .*needs 40 dB"),
        (at_three, r"should be: batch 3, different: [^;]*; batch 3, same: [^;]*$"),
        (neighbours, r"should be: batch 2, different: [^;]*; batch 3, different"),
        (not_finite, "batch 1, different: 5 of 5 outputs are NaN"),
    ],
)
def test_what_is_wrong_at_some_batch_size_or_slot_fails(answer: Answer, message: str) -> None:
    with pytest.raises(VerificationError, match=message) as caught:
        verify(answer)
    assert json.dumps(caught.value.details, allow_nan=False)


def test_nothing_compared_is_a_failure() -> None:
    with pytest.raises(VerificationError, match="nothing compared"):
        verify(right, low=5, high=8)


def test_parts_become_an_exit_code(tmp_path: Path) -> None:
    def raising(error: Exception) -> Callable[[], Any]:
        def work() -> Any:
            raise error

        return work

    report = Report(tmp_path / "x.json", {"head": 1})
    assert report.run("here", "a", lambda: ("fine", {}, None)) is None
    assert report.run("build", "b", raising(EnvironmentMissingError("no GPU", "buy one"))) is None
    report.run("build", "c", raising(ImportError("no module")))
    assert report.exit_code == 4
    assert report.run("verify", "d", lambda: ("fine", {"n": 1}, 7)) == 7
    assert report.exit_code == 0
    report.run("bench", "e", raising(ValueError("a bug\nof two lines")))
    assert report.exit_code == 5
    states = [part.state for part in report.parts]
    assert states == ["passed", "not run", "not run", "passed", "failed"]
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["head"] == 1
    assert [part["state"] for part in written["parts"]] == states
    assert "ValueError" in written["parts"][-1]["details"]["traceback"]
    assert "\n" not in line_of(report.parts[-1])
    assert list(report.summary()) == [f"2 passed, 1 failed, 2 not run: {tmp_path / 'x.json'}"]


@pytest.mark.parametrize("error", [VerificationError("wrong"), InputError("refused")])
def test_what_we_refuse_fails_the_check(tmp_path: Path, error: Exception) -> None:
    def work() -> Any:
        raise error

    report = Report(tmp_path / "x.json", {})
    report.run("verify", "a", work)
    assert report.exit_code == 5


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


def test_the_bench_takes_turns_and_prints_a_table(
    config: str, noise: Callable[..., np.ndarray]
) -> None:
    variant = read_config(Path(config))
    runners = [TorchRunner(build_model(variant.config), name) for name in ("first", "second")]
    half = TorchRunner(Halved(build_model(variant.config)).eval(), "half")
    pairs = [(runners[0], "fp32"), (runners[1], "fp32"), (half, "fp16")]
    kernels = {"second": 95}
    _, details, _ = time_all(pairs, noise(variant, 2), 2, 2, kernels)  # type: ignore[arg-type]
    assert [row["name"] for row in details["measurements"]] == ["first", "second", "half"]
    assert {row["batch"] for row in details["measurements"]} == {2}
    head, *rows = bench_lines(details | {"warnings": []})
    assert head.split()[0] == "runner"
    assert [row.split()[0] for row in rows] == ["first", "second", "half"]
    assert [row.split()[-1] == "95" for row in rows] == [False, True, False]
    with pytest.raises(EnvironmentMissingError, match="nothing on a GPU"):
        time_all([], noise(variant, 2), 2, 2, {})
