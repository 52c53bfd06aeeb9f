"""``inspect`` says all of an accepted file, and the command that it prints works as it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from next_command import inspect_json, run_next
from published import edit, save_timm, save_transformers
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.network.vit import VitConfig
from swin_deploy.run.finished import require_run
from vit_models import timm_vit

NAMES = ("ant", "bee", "cat")
SHALLOW = {"depths": (1, 1), "num_heads": (1, 2)}


def state(**arguments: Any) -> dict[str, torch.Tensor]:
    return dict(small_timm(**SHALLOW | arguments).state_dict())


def file(folder: Path, content: Any, name: str = "weights.pth") -> list[str]:
    torch.save(content, folder / name)
    return [str(folder / name), "--image", "64"]


def with_names(folder: Path) -> list[str]:
    (folder / "my names.txt").write_text("\n".join(NAMES))
    said = ["--classes", str(folder / "my names.txt"), "--mean", "0.5", "--std", "0.2,0.3,0.4"]
    return [*file(folder, state()), *said, "--crop", "0.8", "--interpolation", "lanczos"]


def multilabel(folder: Path) -> list[str]:
    saved = save_transformers(folder / "transformers")
    edit(saved / "config.json", problem_type="multi_label_classification")
    return [str(saved)]


def backbone(folder: Path) -> list[str]:
    tensors = {k: v for k, v in state().items() if not k.startswith(("head", "norm."))}
    return file(folder, {"state_dict": tensors})


def averaged(folder: Path) -> list[str]:
    return [*file(folder, {"model": state(), "model_ema": state(seed=1)}), "--ema"]


def contained(folder: Path) -> list[str]:
    nets = {"teacher": state(), "student": state(seed=1)}
    return [*file(folder, nets), "--container", "student"]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = small_timm(**SHALLOW), small_timm(seed=1, **SHALLOW)


ACCEPTED: dict[str, Callable[[Path], list[str]]] = {
    "three classes": lambda folder: file(folder, state()),
    "a space in its name": lambda folder: file(folder, state(), "my weights.pth"),
    "one output": lambda folder: file(folder, state(num_classes=1)),
    "regression": lambda folder: [*file(folder, state(num_classes=2)), "--task", "regression"],
    "multi-label": multilabel,
    "one channel": lambda folder: file(folder, state(in_chans=1)),
    "four channels": lambda folder: file(folder, state(in_chans=4)),
    "twelve channels": lambda folder: [*file(folder, state(in_chans=12)), "--mean", "0.3"],
    "labels of its own": lambda folder: file(folder, {"model": state(), "classes": list(NAMES)}),
    "said by the user": with_names,
    "backbone": backbone,
    "average": averaged,
    "container": contained,
    "prefix": lambda folder: [*file(folder, Pair().state_dict()), "--prefix", "second."],
    "other windows": lambda folder: [*file(folder, state()), "--window", "8"],
    "oblong": lambda folder: [str(file(folder, state())[0]), "--image", "64x96"],
    "folder of transformers": lambda folder: [str(save_transformers(folder / "saved"))],
    "file of transformers": lambda folder: [
        str(save_transformers(folder / "saved") / "model.safetensors")
    ],
    "folder of timm": lambda folder: [str(save_timm(folder / "saved"))],
    "ViT": lambda folder: file(
        folder,
        timm_vit(
            VitConfig(name="x", image_size=(64, 64), embed_dim=192, depth=12, num_heads=3)
        ).state_dict(),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_next_command_works_as_it_is_printed(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_next(capsys, tmp_path / "run", *ACCEPTED[case](tmp_path))
    run = require_run(tmp_path / "run")
    said = {
        key: tuple(v) if isinstance(v, list) else v for key, v in found["preprocessing"].items()
    }
    assert {key: getattr(run.preprocessing, key) for key in said} == said
    assert list(run.labels) == found["labels"]
    assert run.interface.task == (found["task"] or "single-label")
    assert run.config.in_channels == found["config"]["in_channels"]
    assert run.config.num_classes == found["config"]["num_classes"]


def test_inspect_tells_photos_labels_windows_and_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = file(tmp_path, {"model": state(num_classes=7), "classes": list("abcdefg")})
    assert cli.run(["inspect", *arguments]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["labels"] == "7: a, b, c, d, e, ..."
    assert told["outputs"] == "7 classes, of which one is right"
    assert told["photos"].startswith("crop 0.9 (center), bicubic, mean 0.485, 0.456, 0.406, std")
    assert told["windows"] == "4x4 shifted by 2x2, 4x4 shifted by 2x2"
    assert told["image"] == "64x64, channels: 3"
    found = inspect_json(capsys, *arguments)
    assert found["windows"] == ["4x4 shifted by 2x2"] * 2
    assert (found["task"], found["outputs"]) == (None, told["outputs"])


def test_what_inspect_refuses_export_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same words, of what is neither in the file nor in its tensors."""
    arguments = [*file(tmp_path, state(in_chans=4)), "--mean", "0.5,0.5,0.5"]
    errors = []
    for command in (["inspect", *arguments], ["export", "--weights", *arguments]):
        assert cli.run([*command, "--json"]) == 2
        errors.append(json.loads(capsys.readouterr().out)["error"]["message"])
    assert errors[0] == errors[1]
    assert errors[0] == "--mean has 3 values, and the network takes 4 channels"
