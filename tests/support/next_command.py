"""The command that ``inspect`` prints, run as a person would who copies it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from swin_deploy.cli import main as cli


def inspect_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What ``inspect --json`` says of an accepted file."""
    capsys.readouterr()
    assert cli.run(["inspect", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def run_next(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> dict[str, Any]:
    """Inspect a file, then export it by the command that was printed, in FP32 for the CPU.

    Args:
        capsys: Of the test.
        out: Of the run.
        arguments: Of ``inspect``.

    Returns:
        What ``inspect --json`` says.
    """
    found = inspect_json(capsys, *arguments)
    program, *words = shlex.split(found["next"])
    assert program == "swin-deploy"
    more = ["--target", "cpu", "--precision", "fp32", "--out", str(out)]
    assert cli.run([*words, *more]) == 0, found["next"]
    return found
