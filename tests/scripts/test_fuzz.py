"""Damaged files of every kind: read or refused by type, in time; what once was neither, again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from conftest import ROOT
from fuzzing import run
from fuzzing.mutation import mutated
from fuzzing.run import Findings, Inputs, fuzz, read, read_in_time
from fuzzing.subject import Subject
from fuzzing.subjects import SUBJECTS
from swin_deploy.core.errors import InputError

PAST = sorted((ROOT / "tests" / "fuzzed").iterdir())
TYPED = {"read", "E_INPUT", "E_CONFIG", "E_UNSAFE", "E_ENVIRONMENT", "E_RESOURCE"}


@pytest.mark.fault(1, 2, 14, 28, 44)
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.name) for p in PAST],
)
def test_what_once_was_an_untyped_error_is_none(path: Path) -> None:
    assert read_in_time(SUBJECTS[path.name.partition("-")[0]], path)[0] in TYPED


@pytest.mark.parametrize("name", SUBJECTS)
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    for what, content in SUBJECTS[name].whole().items():
        path = tmp_path / f"x{SUBJECTS[name].suffix}"
        path.write_bytes(content)
        assert read(SUBJECTS[name], path) == ("read", ""), what


@pytest.mark.fault(1, 2, 4, 14, 25, 28, 44)
@pytest.mark.slow
def test_damaged_files_are_typed_errors(tmp_path: Path) -> None:
    found = fuzz(tmp_path, SUBJECTS, count=1_000_000, seconds=30)
    assert not found.failures
    assert {what for _, what in found.outcomes} <= TYPED
    for name in SUBJECTS:
        assert sum(found.outcomes[name, what] for what in TYPED) > 30, name


def test_an_input_depends_on_seed_and_number_alone() -> None:
    subjects = {name: SUBJECTS[name] for name in ("config", "classes")}
    one, two = Inputs(subjects, 5), Inputs(subjects, 5)
    assert [one.make(n) for n in range(50)] == [two.make(n) for n in reversed(range(50))][::-1]
    assert len({one.make(n)[1] for n in range(50)}) > 40
    assert one.make(0) != Inputs(subjects, 6).make(0)


def whole() -> dict[str, bytes]:
    return {"text": b"0123456789"}


def reads_badly(path: Path) -> None:
    """By its first byte: good, refused, a bug, a process that ends, one that never does.

    Of the latter one is interrupted by no signal.
    """
    kind = path.read_bytes()[:1]
    if kind in b"0":
        raise InputError("a zero", "another")
    if kind in b"1234":
        raise KeyError("a bug")
    if kind in b"5\0":
        os._exit(7)
    if kind == b"\xfe":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    if kind in (b"\xfe", b"\xff"):
        time.sleep(60)


BAD = Subject(".txt", whole, reads_badly, partial(mutated, pieces=(b"1", b"5", b"x")))


def test_every_outcome_is_counted_and_none_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_GRACE_S", 1.0)
    found = fuzz(tmp_path, {"bad": BAD}, count=60, workers=2, limit_s=5.0)
    assert found.total() == 60
    assert min(found.total(what) for what in ("read", "E_INPUT", "untyped", "crash")) > 0
    kinds = {what for _, what in found.failures}
    assert "crash, exit 7" in kinds
    assert any(what.startswith("KeyError at ") for what in kinds)
    (content,) = (c for (_, what), c in found.failures.items() if what == "crash, exit 7")
    assert content[:1] in (b"5", b"\0")


def replaced(content: bytes, choose: random.Random, by: bytes) -> bytes:
    return by


def hanging(first: bytes) -> Subject:
    return Subject(".txt", whole, reads_badly, partial(replaced, by=first))


def test_a_hang_ends_and_is_counted(tmp_path: Path) -> None:
    found = fuzz(tmp_path, {"bad": hanging(b"\xff")}, count=2, limit_s=0.2)
    assert found.outcomes == {("bad", "hang"): 2}
    assert all("test_fuzz.py" in what for _, what in found.failures)


def test_what_no_signal_interrupts_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_GRACE_S", 0.5)
    found = fuzz(tmp_path, {"bad": hanging(b"\xfe")}, count=2, limit_s=0.2)
    assert found.outcomes == {("bad", "hang"): 2}
    assert {what for _, what in found.failures} == {"hang, exit -9"}


def test_time_ends_it(tmp_path: Path) -> None:
    started = time.monotonic()
    found = fuzz(tmp_path, {"classes": SUBJECTS["classes"]}, count=10**7, seconds=1)
    assert 0 < found.total() < 10**7
    assert time.monotonic() - started < 60


def test_findings_add_up() -> None:
    found = Findings()
    found.outcomes["a", "read"] += 2
    found.outcomes["b", "untyped"] += 1
    assert (found.total(), found.total("read"), found.total("hang", "untyped")) == (3, 2, 1)


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--count", "60", "--seed", "7"),
        *("--subject", "checkpoint", "--subject", "classes", "--json", str(tmp_path / "x.json")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sum(int(line[2]) for line in lines) == 60
    figures = json.loads((tmp_path / "x.json").read_text())
    assert figures["inputs"] == figures["read"] + figures["refused"] == 60
    assert figures["untyped"] == figures["hangs"] == figures["crashes"] == 0
