"""What is told without the heavy libraries is told before they are imported, all of it at once."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import measure_refusals
import refusals
from refusals import DEVICE_REFUSALS, REFUSALS, Refusal
from swin_deploy.core.errors import (
    ConfigError,
    InputError,
    SwinDeployError,
    UnsafeError,
    caught,
    raise_all,
)

Results = dict[Refusal, tuple[int | str, str]]


@pytest.fixture(scope="module")
def results(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of every line, by two children that cannot import what is heavy."""
    folder = tmp_path_factory.mktemp("refusals")
    refusals.make_folder(folder)
    found: Results = {}
    for kind, cases in (("command", REFUSALS), ("device", DEVICE_REFUSALS)):
        lines = [
            [word.replace("RUN", str(digits_run)) for word in shlex.split(case.line)]
            for case in cases
        ]
        program = [sys.executable, refusals.__file__, str(folder), kind, json.dumps(lines)]
        child = subprocess.run(program, capture_output=True, text=True, check=False)
        assert child.returncode == 0, child.stderr
        found |= dict(zip(cases, map(tuple, json.loads(child.stdout)), strict=True))
    for left in ("artifacts", "tuned"):  # that one went past its look
        assert not (folder / left).exists()
    return found


@pytest.mark.parametrize("case", [*REFUSALS, *DEVICE_REFUSALS], ids=lambda case: case.line)
def test_it_is_refused_by_a_look(case: Refusal, results: Results) -> None:
    code, text = results[case]
    assert code == case.code, text
    assert text.startswith("error[")
    assert text.count("\n") == 1
    for word in case.words:
        assert word in text


@pytest.mark.parametrize("heavy", ["torch", "onnx.helper", "tensorrt_rtx"])
def test_the_child_sees_what_is_heavy(heavy: str) -> None:
    with pytest.raises(AssertionError, match=heavy):
        refusals.Forbidden().find_spec(heavy)
    refusals.Forbidden().find_spec("numpy")


def _problems(*problems: SwinDeployError) -> Iterator[SwinDeployError]:
    yield from problems


def test_one_problem_is_itself() -> None:
    raise_all(_problems())
    one = InputError("a", "b")
    with pytest.raises(InputError) as caught_:
        raise_all(_problems(one))
    assert caught_.value is one


def test_several_are_one_line_and_keep_their_own_codes() -> None:
    with pytest.raises(ConfigError) as caught_:
        raise_all(_problems(InputError("a", "b"), ConfigError("c"), InputError("a", "b")))
    assert str(caught_.value) == "2 things are wrong: (1) a; try: b; (2) c"
    assert [p["exit_code"] for p in caught_.value.details["problems"]] == [3, 2]
    with pytest.raises(UnsafeError):
        raise_all(_problems(ConfigError("c"), UnsafeError("d")))


def test_bugs_are_not_caught() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(caught(broken))


def test_refusals_are_timed(tmp_path: Path) -> None:
    code, seconds = measure_refusals.measure("export --variant swim_t", tmp_path)
    assert code == 2
    assert seconds > 0
