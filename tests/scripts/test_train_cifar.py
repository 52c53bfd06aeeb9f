"""The recipe of small images, from training to a deployed network."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import train_cifar
from swin_deploy.cli import main as cli


def test_what_it_trains_is_exported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, run = tmp_path / "cifar.pth", tmp_path / "run"
    told = ["--epochs", "1", "--images", "32", "--batch", "16", "--out", str(checkpoint)]
    assert train_cifar.main(told) == 0
    assert "digits: " in capsys.readouterr().out
    state = torch.load(checkpoint, weights_only=True)
    assert state["classes"] == [str(digit) for digit in range(10)]
    result = CliRunner().invoke(
        cli.main,
        [
            *("export", "--config", str(train_cifar.CONFIG), "--weights", str(checkpoint)),
            *("--target", "cpu", "--precision", "fp32", "--out", str(run), "--json"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verification"]["passed"]


def test_training_learns() -> None:
    """Four images, again and again: what cannot learn these learns nothing."""
    from swin_deploy.pipeline.request import read_config

    variant = read_config(train_cifar.CONFIG)
    torch.manual_seed(0)
    start = train_cifar.initialised(variant)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    data = train_cifar.Pictures(pixels, torch.tensor([0, 1, 2, 3]))
    trained, _ = train_cifar.train(variant, data, 2, 4)
    changed = [
        name
        for name, value in trained.named_parameters()
        if not torch.equal(value, dict(start.named_parameters())[name])
    ]
    assert len(changed) == len(list(start.parameters()))


def test_the_rate_rises_and_falls() -> None:
    shares = [train_cifar.share_of_peak(step, 100) for step in range(100)]
    assert max(shares) == shares[4] == 1.0
    assert shares[0] == pytest.approx(0.2)
    assert shares[5:] == sorted(shares[5:], reverse=True)
    assert shares[-1] < 0.01


def test_what_is_no_cifar_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torchvision compares checksums before it opens a pickle."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}))
    out = tmp_path / "x.pth"
    assert train_cifar.main(["--data", str(tmp_path), "--out", str(out)]) == 3
    assert "cifar-10-batches-py" in capsys.readouterr().err
    assert not out.exists()
