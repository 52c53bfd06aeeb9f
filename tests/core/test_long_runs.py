"""Exports that are killed, runs that are read while they are replaced: the scripts see damage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import kill_runs
import read_while_publishing
from kill_runs import Bench, Findings, contents, plan, visible
from read_while_publishing import read
from swin_deploy.core.errors import SwinDeployError


def test_an_export_dies_before_the_call_of_its_number(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = kill_runs.start(out, at=1)
    assert process.wait(120) == -signal.SIGKILL, (tmp_path / "stderr.txt").read_text()
    listed = (tmp_path / "calls.txt").read_text().splitlines()
    assert len(listed) == 1
    assert str(out) in listed[0]
    assert not out.exists()


def test_calls_first_and_the_rest_at_random_times() -> None:
    many = plan(10, 4, 2.0, random.Random(0))
    assert [at for at, _ in many] == [1, 2, 3, 4, *[0] * 6]
    assert all(0.2 <= seconds <= 2.0 for at, seconds in many if not at)
    few = plan(5, 40, 2.0, random.Random(0))
    assert [at for at, _ in few] == [40, 39, 38, 0, 0]  # the last ones are those of publication


@pytest.fixture
def run(digits_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(digits_run, tmp_path / "run", symlinks=True)


def test_a_whole_run_is_read_and_a_mixture_is_not(run: Path) -> None:
    found = contents(run)
    assert found
    assert read(run) == found
    assert set(found) < visible(run)
    assert not any(name.startswith(".") for name in visible(run))
    name = sorted(found)[0]
    (run / name).write_bytes(b"of another version")
    assert contents(run) is None
    with pytest.raises(SwinDeployError):
        read(run)
    (run / "manifest.json").write_text("half")
    assert contents(run) is None


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        ("nothing", []),
        ("mixture", ["neither run can be read"]),
        ("child", ["outlived it"]),
        ("rerun", ["the rerun ended with other files"]),
        ("refusal", ["the rerun failed: no"]),
    ],
)
def test_what_a_death_leaves_is_looked_at(
    run: Path, tmp_path: Path, damage: str, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(run)
    assert whole
    bench = Bench(scratch=tmp_path / "work", old=run, before=whole, expected=whole)
    bench.scratch.mkdir()
    orphans = []
    sleeper = [sys.executable, "-c", "import time; time.sleep(100)"]
    marked = os.environ | {kill_runs.MARK: str(os.getpid())}

    def start(out: Path, **_: Any) -> subprocess.Popen[bytes]:
        if damage == "mixture":
            (out / sorted(whole)[0]).write_bytes(b"x")
        if damage == "child":
            orphans.append(subprocess.Popen(sleeper, env=marked))
        return subprocess.Popen(sleeper)

    def finish(out: Path) -> None:
        shutil.rmtree(out)
        shutil.copytree(run, out)
        if damage == "rerun":
            (out / "more.txt").write_text("")
        if damage == "refusal":
            raise RuntimeError("no")

    monkeypatch.setattr(kill_runs, "start", start)
    monkeypatch.setattr(kill_runs, "finish", finish)
    monkeypatch.setattr(kill_runs, "ENDED_S", 0.5)
    findings = Findings()
    kill_runs.kill(bench, findings, 0, 0.2)
    assert all(orphan.wait(10) == -signal.SIGKILL for orphan in orphans)
    assert findings.at_random_times == 1
    assert len(findings.faults) == len(faults), findings.faults
    assert all(text in fault for text, fault in zip(faults, findings.faults, strict=True))
    assert findings.reruns_identical == (damage not in ("rerun", "refusal"))


class Publisher:
    """In place of the process that exports."""

    gap_s = 0.0  # in which a file of the run is not there

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = self

    def publish(self, _batch: int) -> None:
        shutil.copytree(self.folder.parent / "run", self.folder, dirs_exist_ok=True)
        if self.gap_s:
            (self.folder / "model.onnx").unlink()
            time.sleep(self.gap_s)
            shutil.copy(self.folder.parent / "run" / "model.onnx", self.folder)
        time.sleep(0.3)

    def communicate(self) -> None:
        """Nothing runs."""


@pytest.mark.usefixtures("run")
def test_a_publication_in_several_steps_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_while_publishing, "Publisher", Publisher)
    monkeypatch.setattr(Publisher, "gap_s", 0.3)
    figures = read_while_publishing.measure(tmp_path / "x", reads=60, readers=1, publications=2)
    assert figures["reads"] >= 60
    assert 0 < figures["errors"] < figures["reads"]
    assert any("model.onnx" in name for name in figures["first_errors"])
