"""Weights of torchvision's table: fetched once, told by their hash, refused for the reason."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT
from libraries import randomise
from local_hub import Hub
from swin_deploy.cli import main as cli
from timm_models import import_timm

Offer = Callable[[str], None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of torchvision's own, at pocket size, with the hash in its name."""
    import_timm()
    from torchvision.models.swin_transformer import SwinTransformer

    network = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=16,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=[4, 4],
        num_classes=5,
    )
    path = tmp_path_factory.mktemp("server") / "tiny.pth"
    torch.save(randomise(network).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"swin_t-{digest[:8]}.pth"))


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Offer:
    """Make torchvision's table say that swin_t lies at a URL; the cache is empty."""
    import_timm()
    from torchvision import models
    from torchvision.models._api import Weights, WeightsEnum
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def say(url: str) -> None:
        transforms = partial(
            ImageClassification,
            crop_size=32,
            resize_size=36,
            interpolation=InterpolationMode.BICUBIC,
        )
        weights = Weights(
            url=url, transforms=transforms, meta={"categories": ["a", "b", "c", "d", "e"]}
        )
        table = WeightsEnum("Tiny_Weights", {"IMAGENET1K_V1": weights, "DEFAULT": weights})
        monkeypatch.setattr(models, "get_model_weights", lambda name: table)

    return say


def inspect(capsys: pytest.CaptureFixture[str], weights: str = "torchvision:swin_t") -> Any:
    assert cli.run(["inspect", weights, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def fails(
    capsys: pytest.CaptureFixture[str], code: int, weights: str = "torchvision:swin_t"
) -> str:
    assert cli.run(["inspect", weights]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_the_table_s_file_is_fetched_once(
    checkpoint: Path, offer: Offer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(checkpoint.as_uri())
    facts = inspect(capsys)
    assert facts["source"]["source"] == "torchvision"
    assert facts["source"]["revision"] == "IMAGENET1K_V1"
    assert facts["source"]["file"] == checkpoint.name
    assert facts["config"]["image_size"] == [32, 32]
    assert facts["config"]["num_classes"] == 5
    steps = facts["preprocessing"]
    assert int(32 / steps["crop"]) == 36
    assert (steps["crop_mode"], steps["interpolation"]) == ("center", "bicubic")
    assert (tmp_path / "torch" / "hub" / "checkpoints" / checkpoint.name).exists()

    offer(f"http://127.0.0.1:1/{checkpoint.name}")  # nothing listens there
    assert inspect(capsys, "torchvision:swin_t:IMAGENET1K_V1")["config"] == facts["config"]


def test_a_file_with_another_hash_is_refused(
    checkpoint: Path, offer: Offer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "swin_t-00000000.pth"
    wrong.write_bytes(checkpoint.read_bytes())
    offer(wrong.as_uri())
    assert "swin_t-00000000.pth was cut off or is another file" in fails(capsys, 8)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    assert list(cache.iterdir()) == []
    wrong.rename(cache / wrong.name)  # put there by somebody else
    assert "is not the file that torchvision means" in fails(capsys, 8)


def test_without_network_and_cache_it_says_what_is_missing(
    offer: Offer, capsys: pytest.CaptureFixture[str]
) -> None:
    offer("http://127.0.0.1:1/swin_t-00000000.pth")
    line = fails(capsys, 4)
    assert "swin_t-00000000.pth is not in PyTorch's cache and cannot be downloaded: " in line
    assert "give --weights its path" in line


@pytest.mark.parametrize(("status", "code"), [(404, 3), (503, 4)])
def test_a_server_that_refuses_is_quoted(
    status: int, code: int, offer: Offer, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    hub.foreign = status
    with hub.running():
        offer(f"{hub.url}/swin_t-00000000.pth")
        assert str(status) in fails(capsys, code)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("torchvision:swin_v2", "no Swin called 'swin_v2'; try: swin_v2_"),
        ("torchvision:resnet50", "torchvision has no Swin called 'resnet50'; try: swin_"),
        ("torchvision:swin_t:V9", "no weights 'V9' of swin_t; try: IMAGENET1K_V1"),
    ],
)
def test_names_that_torchvision_does_not_have(
    weights: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import_timm()
    assert message in fails(capsys, 2, weights)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ImportError(\"No module named 'torchvision'\")", "cannot be imported: No module named"),
        ("RuntimeError('operator torchvision::nms does not exist')", "built for another PyTorch"),
    ],
)
def test_a_torchvision_that_cannot_be_imported(error: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(f"raise {error}\n")
    done = subprocess.run(
        [sys.executable, "-m", "swin_deploy", "inspect", "torchvision:swin_t"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert message in line
    assert "pip install torchvision" in line or "from where this PyTorch came from" in line
