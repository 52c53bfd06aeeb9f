"""Bad input, signals, a busy folder, a full disk: the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx_ir
import pytest
from google.protobuf.message import EncodeError

from conftest import ROOT
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import SwinDeployError, from_os_error
from swin_deploy.pipeline.run import RunResult


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): path.read_bytes() for path in files}


# Arguments -> exit code and what the error says. {p} is an empty folder, {run} a finished run.
BAD_INPUT = {
    "no network": ("export", 2, "no network was named; try: --variant swin_t"),
    "unknown variant": ("export --variant swim_t", 2, "unknown variant 'swim_t'; try: swin_t"),
    "two networks": ("export --variant swin_t --config {config}", 2, "both name a network"),
    "two weights": ("export --weights {config} --seed 1", 2, "--seed is for random weights"),
    "none bundled": (
        "export --variant swin_t --weights bundled",
        2,
        "no weights for swin_t come with the package; try: --variant swin_pocket",
    ),
    "no weights": ("export --weights {p}/no.pth", 3, "does not exist"),
    "no checkpoint": ("inspect {config}", 3, "has the suffix '.toml'"),
    "missing config": ("export --config {p}/no.toml", 2, "does not exist"),
    "bad image": ("export --variant swin_t --image 225", 2, "image size 224 or 448"),
    "windows do not tile": ("export --variant swin_t --image 256", 2, "image size 224 or 448"),
    "no image": ("export --variant swin_t --image 0x224", 2, "neither a size like 224"),
    "empty out": ("export --variant swin_t --out {empty}", 2, "the present one is '.'; try"),
    "empty weights": ("export --weights {empty}", 2, "--weights '' names nothing"),
    "empty weights in words": ("inspect {empty}", 2, "names nothing"),
    "empty photos": ("export --variant swin_t --images {empty}", 2, "an empty name is no file"),
    "empty calibration": (
        "sensitivity {run} --calibration {empty}",
        2,
        "an empty name is no file and no folder",
    ),
    "empty run": ("cost {empty}", 2, "an empty name is no file"),
    "wait": ("export --config {config} --out {p}/r --wait nan", 2, "'nan' is no number"),
    "wait for ever": ("export --config {config} --out {p}/r --wait inf", 2, "'inf' is no number"),
    "fail below": ("bench --engine {run} --fail-below nan", 2, "'nan' is no number"),
    "fail below all": ("bench --engine {run} --fail-below inf", 2, "'inf' is no number"),
    "drop": ("export --variant swin_t --max-drop nan", 2, "'nan' is no number"),
    "lose": ("sensitivity {run} --calibration {p} --max-drop nan", 2, "'nan' is no number"),
    "keep": ("sensitivity {run} --calibration {p} --min-sqnr=-inf", 2, "'-inf' is no number"),
    "workspace": (f"export --variant swin_t --workspace {'9' * 400}GiB", 2, "is no size like"),
    "no memory": ("export --config {config} --image 4000000 --out {p}/r", 6, "out of memory"),
    "beyond ONNX": ("export --config {large} --out {p}/r", 6, "an ONNX file at most 2147483647"),
    "negative batch": ("export --variant swin_t --batch -4", 2, "batch -4:-4 is not a range"),
    "reversed batch": ("export --variant swin_t --batch 8:2", 2, "batch 8:2 is not a range"),
    "batch in words": ("export --variant swin_t --batch many", 2, "neither a number like 8"),
    "unknown precision": ("export --variant swin_t --precision fp15", 2, "is not a list like"),
    "unknown outputs": (
        "export --variant swin_t --outputs boxes",
        2,
        "is not one of 'logits'",
    ),
    "unknown target": ("export --variant swin_t --target rxt", 2, "unknown target 'rxt'; try: rtx"),
    "missing library": ("export --variant swin_t --target tensorrt --out {p}/r", 4, "pip install"),
    "out is a file": ("export --variant swin_t --out {config}", 9, "cannot write in"),
    "out below a file": ("export --variant swin_t --out {config}/x", 9, "cannot write in"),
    "photos missing": ("export --config {config} --out {p}/r --images {p}/no", 3, "not a folder"),
    "photos empty": ("export --config {config} --out {p}/r --images {p}", 3, "holds no photos"),
    "bench nothing": ("bench --engine {p}/none.plan", 3, "does not exist"),
    "bench no run": ("bench --engine {p}", 3, "holds no finished run"),
    "bench a text": ("bench --engine {config}", 8, "is listed in no manifest"),
    "bench batch": ("bench --engine {run} --batches 0", 2, "must be at least 1"),
    "bench threads": ("bench --engine {run} --threads 0", 2, "threads = 0"),
    "bench far too many threads": ("bench --engine {run} --threads 100000", 2, "from 1 to 1024"),
    "bench a listing": (
        "bench --engine {run}/engines/rtx-fp16.kernels.json",
        8,
        "is not an engine that",
    ),
    "cost nothing": ("cost {p}/none.plan", 3, "does not exist"),
    "cost no run": ("cost {p}", 3, "holds no finished run"),
    "cost a text": ("cost {config}", 8, "is listed in no manifest"),
    "cost a foreign plan": ("cost {foreign}.plan", 8, "is listed in no manifest"),
    "cost an empty file": ("cost {foreign}.empty.onnx", 3, "is empty"),
    "cost a web page": ("cost {foreign}.page.onnx", 3, "is a web page"),
    "cost half a graph": ("cost {foreign}.half.onnx", 3, "is not a valid ONNX model"),
    "cost gpu": ("cost {run} --gpu a1000", 2, "unknown GPU 'a1000'; try: a100 or a10"),
    "cost compare": ("cost {run} --compare {p}/no.onnx", 3, "does not exist"),
    "cost unlisted": ("cost {run}/verify.json", 8, "is not an engine that"),
    "bundle nothing": ("bundle {p} --target cpu", 3, "holds no finished run"),
    "bundle no target": ("bundle {run}", 2, "Missing option '--target'"),
    "bundle unknown target": ("bundle {run} --target cpv", 2, "try: "),
    "bundle random weights": ("bundle {run} --target cpu", 2, "are random"),
    "predict a run": ("predict {run} x.png", 3, "is a run, not a bundle"),
    "predict nothing": ("predict {p}/no x.png", 3, "does not exist"),
    "predict no photo": ("predict {p}", 2, "Missing argument 'PHOTO...'"),
    "no such option": ("export --fast", 2, "No such option"),
    "no such command": ("exprot", 2, "No such command"),
}


@pytest.mark.fault(13, 14, 18, 42)
@pytest.mark.parametrize(("line", "code", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_clear_line_and_nothing_is_lost(
    line: str,
    code: int,
    message: str,
    config: str,
    tmp_path: Path,
    pocket_run: RunResult,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    foreign = tmp_path / "foreign"
    graph = (pocket_run.path / "model.onnx").read_bytes()
    page = b"<!DOCTYPE html><html></html>"
    contents = {"plan": b"x", "empty.onnx": b"", "page.onnx": page, "half.onnx": graph[:-1000]}
    for suffix, content in contents.items():
        Path(f"{foreign}.{suffix}").write_bytes(content)
    large = tmp_path / "large.toml"  # of 1.4 thousand million parameters
    large.write_text("image_size = 224\nembed_dim = 512\ndepths = [2, 2, 18, 2]\n"
                     "num_heads = [16, 32, 64, 128]\nwindow_size = 7\n")  # fmt: skip
    names = {
        "p": folder,
        "config": config,
        "large": large,
        "run": pocket_run.path,
        "empty": "",
        "foreign": foreign,
    }
    words = [word.format(**names) for word in line.split(" ")]
    before = snapshot(pocket_run.path), snapshot(tmp_path)
    assert cli.run(words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("error[E_")
    assert "Traceback" not in captured.err
    assert (snapshot(pocket_run.path), snapshot(tmp_path)) == before


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "error",
    [
        EncodeError("Failed to serialize proto"),
        ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB: 2147483688"),
    ],
)
def test_a_graph_that_grew_too_large_is_an_error_of_its_own(
    error: Exception,
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def save(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(onnx_ir, "save", save)
    assert cli.run(["export", "--config", config, "--out", str(tmp_path / "r")]) == 6
    assert "larger than an ONNX file of 2 GiB" in capsys.readouterr().err


def swin_deploy(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "swin_deploy", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_held(run: Path) -> bool:
    """Whether somebody says in the lock of a run that they have it."""
    return (run / ".lock").is_file() and (run / ".lock").stat().st_size > 0


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_it_cleanly(
    number: signal.Signals, code: int, config: str, tmp_path: Path
) -> None:
    process = swin_deploy("export", "--config", config, "--out", "run", cwd=tmp_path)
    for _ in range(600):
        if is_held(tmp_path / "run"):
            break
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    assert not is_held(tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.fault(41)
def test_a_run_in_use_is_refused_at_once(config: str, tmp_path: Path) -> None:
    arguments = ("export", "--config", config, "--out", "run")
    first = swin_deploy(*arguments, cwd=tmp_path)
    for _ in range(600):
        if is_held(tmp_path / "run"):
            break
        time.sleep(0.05)
    second = swin_deploy(*arguments, cwd=tmp_path)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 7
    assert f"in use by process {first.pid} on" in err
    waiting = swin_deploy(*arguments, "--wait", "120", "--json", cwd=tmp_path)
    out, _ = first.communicate(timeout=120)
    assert first.returncode == 0
    assert "done in" in out
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, err
    assert len(json.loads(out)["current"]) == 6


def in_bash(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A line whose every command is one of this package, with {} in place of its name."""
    return subprocess.run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            line.format(f"{shlex.quote(sys.executable)} -m swin_deploy"),
        ],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{} variants --json | head -n 1", 0),
        ("{} variants | true", 0),
        ("{} --help | true", 0),
        ("{} cost run | true", 0),
        ("{} cost nowhere --json 2>&1 | true", 3),
        ("{} variants >&-", 0),
    ],
)
def test_a_closed_pipe_is_no_error(
    line: str, code: int, tmp_path: Path, pocket_run: RunResult
) -> None:
    """It neither stops a command, nor changes what its exit code says."""
    (tmp_path / "run").symlink_to(pocket_run.path)
    done = in_bash(line, tmp_path)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == ("{\n" if "head" in line else "")


@pytest.mark.fault(38)
@pytest.mark.parametrize("line", ["targets --json", "doctor --json", "variants", "--help"])
def test_a_full_disk_under_standard_output_is_one_line(line: str, tmp_path: Path) -> None:
    done = in_bash(f"{{}} {line} > /dev/full", tmp_path)
    assert done.returncode == 6
    assert done.stderr.startswith("error[E_RESOURCE]: standard output: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_under_standard_error_changes_nothing(tmp_path: Path) -> None:
    assert in_bash("{} cost nowhere 2> /dev/full", tmp_path).returncode == 3


@pytest.mark.fault(38, 42)
@pytest.mark.parametrize(
    ("number", "code"),
    [(28, 6), (122, 6), (13, 9), (30, 9), (36, 9), (5, 6), (24, 6), (12, 6), (22, None)],
)
def test_the_operating_system_s_refusals_have_their_codes(number: int, code: int | None) -> None:
    error = from_os_error(OSError(number, os.strerror(number), "some/file"))
    assert (error and error.exit_code) == code
    if error is not None:
        assert "some/file" in error.problem


@pytest.mark.fault(38)
def test_a_full_disk_leaves_nothing_half(config: str, tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk: the graph does not fit."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "from swin_deploy.cli.main import run\n"
        f"sys.exit(run(['export', '--config', {config!r}, '--out', 'run']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 6, done.stderr
    assert "error[E_RESOURCE]" in done.stderr
    assert not list((tmp_path / "run").rglob("*.onnx"))


def test_every_error_class_has_its_own_code() -> None:
    kinds = SwinDeployError.__subclasses__()  # UsageError is a ConfigError, exit 2
    assert sorted(kind.exit_code for kind in kinds) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert len({kind.code for kind in kinds}) == len(kinds)
