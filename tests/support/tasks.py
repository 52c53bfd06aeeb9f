"""Small networks of several tasks, and what commands say of them."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Silent
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.trust import open_bundle

NAMES = ("ant", "bee", "cat")
COMMON = ["--image", "64", "--target", "cpu", "--precision", "fp32"]


def export(root: Path, outputs: int, *options: str) -> Path:
    torch.save(small_timm(num_classes=outputs).state_dict(), root / "plain.pth")
    out = root / "run"
    command = ["export", "--weights", str(root / "plain.pth"), "--out", str(out)]
    assert cli.run([*command, *COMMON, *options]) == 0
    return out


def built(run: Path, root: Path) -> Path:
    archive, folder = root / "x.zip", root / "unpacked"
    assert cli.run(["bundle", str(run), "--target", "cpu", "--out", str(archive)]) == 0
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    build_bundle(open_bundle(folder), ["fp32"], Silent().started)
    return folder


def lines(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    capsys.readouterr()
    assert cli.run(list(map(str, arguments))) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> str:
    capsys.readouterr()
    assert cli.run(list(map(str, arguments))) == code
    return capsys.readouterr().err


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        "\n".join(lines(capsys, "evaluate", *arguments, "--eager", "--json"))
    )
    return found


def figures(row: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in row["figures"]}


def as_csv(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path
