"""Checkpoints of re-implementations go the whole way, by the commands that a user types."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import BARE, MIXED, Silent
from reimplementations import make_berniwal, make_csm_kr, training_checkpoint
from swin_deploy.cli import main as cli
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import SwinConfig
from swin_deploy.run.finished import require_run
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.trust import open_bundle

WINDOWS_OF_4 = SwinConfig(
    name="tiny",
    image_size=(64, 64),
    embed_dim=32,
    depths=(2, 2, 2),
    num_heads=(1, 2, 4),
    window_size=4,
    num_classes=5,
)
WINDOWS_OF_7 = replace(WINDOWS_OF_4, image_size=(112, 112), window_size=7)


def save_berniwal(path: Path) -> int:
    torch.save(make_berniwal(WINDOWS_OF_4).state_dict(), path)
    return WINDOWS_OF_4.image_size[0]


def save_csm_kr(path: Path) -> int:
    torch.save(training_checkpoint(make_csm_kr(WINDOWS_OF_7)), path)
    return WINDOWS_OF_7.image_size[0]


@pytest.mark.parametrize("variant", [BARE, MIXED], ids=lambda variant: variant.name)
def test_its_network_in_our_names_comes_back_with_its_config(
    variant: Variant, tmp_path: Path
) -> None:
    """As fine-tuning writes it: what no tensor says, the rules of the library, is in the config."""
    tensors = dict(build_model(variant.config).named_parameters())
    save_file(tensors, tmp_path / "x.safetensors")
    rules = tuple(asdict(variant.config.semantics))
    options = LoadOptions(image_size=variant.config.image_size, wanted=variant.config, rules=rules)
    found = load_checkpoint(tmp_path / "x.safetensors", options)
    assert found.config == variant.config
    assert found.tensors.keys() == tensors.keys()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["berniwal", "csm-kr"])
def test_from_a_file_to_predictions_of_a_bundle(
    library: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, run, archive = tmp_path / "x.pth.tar", tmp_path / "run", tmp_path / "x.zip"
    side = str({"berniwal": save_berniwal, "csm-kr": save_csm_kr}[library](weights))

    assert cli.run(["inspect", str(weights), "--image", side]) == 0
    told = capsys.readouterr().out
    assert library in told
    parts = {"berniwal": "the last norm after the mean", "csm-kr": "as in the papers"}
    assert parts[library] in told

    command = ["export", "--weights", str(weights), "--image", side, "--out", str(run)]
    command += ["--target", "cpu", "--precision", "fp32,int8", "--calibration", str(photos)]
    assert cli.run(command) == 0
    assert require_run(run).config.semantics.stop_shift == "never"
    assert cli.run(["verify", str(run)]) == 0
    command = ["bundle", str(run), "--target", "cpu", "--calibration", str(photos)]
    assert cli.run([*command, "--out", str(archive)]) == 0

    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    build_bundle(open_bundle(folder), ["fp32", "int8"], Silent().started)
    photo = next(file for file in sorted(photos.iterdir()) if file.suffix == ".jpg")
    capsys.readouterr()
    assert cli.run(["predict", str(folder), str(photo), "--format", "jsonl"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["best"]) == WINDOWS_OF_4.num_classes
