"""Heads of several layers, and embeddings: the whole way from a checkpoint to a device."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bundles import swin_pyz, unpack
from libraries import randomise
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError
from swin_deploy.graph.export import read_outputs
from swin_deploy.network.judge import FLOORS_DB, sqnr_db
from swin_deploy.run.finished import require_run
from swin_deploy.runtime import SwinEngine
from torch_files import save

BUILD = ["--image", "64", "--batch", "1:2", "--target", "cpu", "--precision", "fp32,int8"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def shipped(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What came to the device of it, built there."""
    options = ["--target", "cpu", "--calibration", str(photos), "--allow-random-weights"]
    archive = answer(capsys, "bundle", str(run), *options)["path"]
    folder = unpack(Path(archive), tmp_path / "device")
    done = swin_pyz(sys.executable, folder, "build")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_head_of_two_layers_goes_the_whole_way(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = small_timm()
    head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 5))
    network.head.fc = randomise(head)  # type: ignore[union-attr]
    weights, run = str(save(tmp_path / "tuned.pth", network.state_dict())), tmp_path / "run"
    assert cli.run(["inspect", weights, "--image", "64"]) == 3
    assert "--head-activation relu" in capsys.readouterr().err
    said = answer(capsys, "inspect", weights, "--image", "64", "--head-activation", "relu")
    assert said["config"]["head_hidden"] == [32]
    command = shlex.split(said["next"])[1:]
    assert command[-2:] == ["--head-activation", "relu"]

    made = ["--out", str(run), "--calibration", str(photos), "--int8-also", "head"]
    answer(capsys, *command, *BUILD, *made)
    assert answer(capsys, "verify", str(run))["passed"]
    folder = shipped(run, photos, tmp_path, capsys)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    with SwinEngine.load(folder, "fp32") as engine:
        found = engine(images).logits
    assert found is not None
    assert sqnr_db(expected, found) >= FLOORS_DB["fp32"]


def test_embeddings_of_a_network_without_classes_go_the_whole_way(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = small_timm(num_classes=0)
    weights, run = str(save(tmp_path / "body.pth", network.state_dict())), tmp_path / "run"
    said = answer(capsys, "inspect", weights, "--image", "64")
    assert said["config"]["keeps_norm"]
    assert said["next"].endswith("--outputs stages")

    options = ["--outputs", "embedding", "--calibration", str(photos), "--out", str(run)]
    answer(capsys, "export", "--weights", weights, *BUILD, *options)
    assert read_outputs(run / "model.onnx") == {"embedding": ["batch", 64]}
    assert require_run(run).outputs == "embedding"
    assert answer(capsys, "verify", str(run))["passed"]
    assert answer(capsys, "bench", str(run), "--rounds", "2")["outputs"] == "embedding"
    assert cli.run(["evaluate", str(run), "--data", str(photos)]) == 2
    assert "gives embedding, and accuracy takes classes" in capsys.readouterr().err

    folder = shipped(run, photos, tmp_path, capsys)
    assert "engine.embeddings(" in (folder / "README.md").read_text()
    done = swin_pyz(sys.executable, folder, "predict", str(next(photos.glob("*.png"))))
    assert done.returncode == 2
    assert "embeddings and no classes" in done.stderr
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    with SwinEngine.load(folder, "fp32") as engine:
        assert sqnr_db(expected, engine.embeddings(images)) >= FLOORS_DB["fp32"]
        for call in (engine, engine.maps):
            with pytest.raises(ConfigError, match=r"embeddings.*SwinEngine\.embeddings"):
                call(images)


def test_embeddings_need_the_last_norm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = small_timm(num_classes=0).state_dict()
    bare = {name: value for name, value in tensors.items() if not name.startswith("norm.")}
    weights = str(save(tmp_path / "bare.pth", bare))
    command = ["export", "--weights", weights, "--image", "64", "--outputs", "embedding"]
    assert cli.run([*command, "--out", str(tmp_path / "run")]) == 2
    assert "lacks the norm behind its last stage" in capsys.readouterr().err
