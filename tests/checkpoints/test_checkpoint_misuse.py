"""Checkpoints that a hint, a name or a neighbour would make another network of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import POCKET
from no_downloads import Downloads
from published import save_transformers
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import Hints, LoadOptions
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source, with_hints
from swin_deploy.network.interface import Interface, Task
from swin_deploy.network.judge import softmax
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.runtime.images import to_prediction
from torch_files import save

TABLE = "attn.relative_position_bias_table"


def tensors_of(config: SwinConfig) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in build_model(config).named_parameters()}


def with_windows(tmp_path: Path, windows: Sequence[int]) -> Path:
    tensors = tensors_of(POCKET.config)
    for name, value in tensors.items():
        if name.endswith(TABLE):
            rows = (2 * windows[int(name.split(".")[1])] - 1) ** 2
            tensors[name] = torch.randn(rows, value.shape[1])
    return save(tmp_path / "x.pth", tensors)


@pytest.mark.parametrize("windows", [(4, 8, 4), (4, 4, 8), (8, 4, 4)])
def test_windows_that_differ_by_stage_are_taken_as_they_are(
    tmp_path: Path, windows: tuple[int, ...]
) -> None:
    """A hint to give all stages one of them once led to another network."""
    config = load_checkpoint(with_windows(tmp_path, windows), LoadOptions(image_size=(128, 128)))
    assert isinstance(config.config, SwinConfig)
    assert config.config.stage_windows == tuple((side, side) for side in windows)


@pytest.mark.parametrize(("side", "windows"), [(64, (8, 8, 4)), (32, (8, 4, 2))])
def test_windows_that_are_whole_grids_are_not(
    tmp_path: Path, side: int, windows: tuple[int, ...]
) -> None:
    path = with_windows(tmp_path, windows)
    config = load_checkpoint(path, LoadOptions(image_size=(side, side))).config
    assert isinstance(config, SwinConfig)
    assert config.window_size == 8


@pytest.mark.parametrize("outer_first", [True, False])
def test_two_heads_in_one_file(tmp_path: Path, outer_first: bool) -> None:
    inner = {f"backbone.{name}": value for name, value in tensors_of(POCKET.config).items()}
    outer = {
        f"head.{kind}": torch.randn(*shape) for kind, shape in (("weight", (3, 64)), ("bias", (3,)))
    }
    path = save(tmp_path / "x.pth", outer | inner if outer_first else inner | outer)
    with pytest.raises(
        InputError, match=r"backbone\.head \(7 outputs\), head \(3 outputs\)"
    ) as caught:
        load_checkpoint(path)
    assert caught.value.hint == "--head backbone.head or --head head"
    for name, classes in (("backbone.head", 7), ("head", 3)):
        options = LoadOptions(image_size=(64, 64), head=name)
        assert load_checkpoint(path, options).config.num_classes == classes


def test_one_head_beside_a_backbone_is_its_head(tmp_path: Path) -> None:
    tensors = tensors_of(POCKET.config)
    named = {n if n.startswith("head.") else f"backbone.{n}": v for n, v in tensors.items()}
    found = load_checkpoint(save(tmp_path / "x.pth", named), LoadOptions(image_size=(64, 64)))
    assert found.config.num_classes == 7


def test_what_only_the_name_of_a_variant_tells_is_said(tmp_path: Path) -> None:
    eight, sixteen = (VARIANTS[f"swinv2_t_w{window}"].config for window in (8, 16))
    assert isinstance(sixteen, SwinConfig)
    path = save(tmp_path / "x.pth", tensors_of(sixteen))
    notes = load_checkpoint(path, LoadOptions(wanted=eight)).notes
    assert any("do not tell window_size 8, taken from swinv2_t_w8" in note for note in notes)
    told = LoadOptions(wanted=eight, hints=Hints(window_size=16, pretrained_window_sizes=()))
    with pytest.raises(InputError, match="window_size 16, not 8"):
        load_checkpoint(path, told)
    told = replace(told, wanted=sixteen)
    assert not any("do not tell" in note for note in load_checkpoint(path, told).notes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_transformers(tmp_path_factory.mktemp("transformers"))


def test_a_file_of_a_folder_is_the_folder(folder: Path) -> None:
    by_folder = resolve_source(str(folder), None, Downloads())
    by_file = resolve_source(str(folder / "model.safetensors"), None, Downloads())
    assert by_file == by_folder
    assert by_file.facts.labels[0] == "class 0"


def test_a_file_of_another_name_is_itself_and_says_so(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        name = "tuned.safetensors" if path.suffix == ".safetensors" else path.name
        (tmp_path / name).write_bytes(path.read_bytes())
    listener = Downloads()
    found = resolve_source(str(tmp_path / "tuned.safetensors"), None, listener)
    assert found.preprocessing is None
    assert "config.json lies beside tuned.safetensors and is not read" in listener.notes[0]


def with_problem(folder: Path, target: Path, problem: str) -> Source:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"problem_type": problem}))
    return resolve_source(str(target), None, Downloads())


@pytest.mark.parametrize(
    ("problem", "task", "says"),
    [
        ("multi_label_classification", "multi-label", "independent labels"),
        ("regression", "regression", "no classes"),
        ("single_label_classification", "single-label", ""),
    ],
)
def test_what_outputs_mean_comes_with_the_weights(
    folder: Path, tmp_path: Path, problem: str, task: Task, says: str
) -> None:
    source, listener = with_problem(folder, tmp_path, problem), Downloads()
    assert source.facts.task == task
    options = with_hints(LoadOptions(), source)
    variant = resolve_variant(source, None, options, listener)
    assert variant.config.num_classes == 5
    notes = listener.notes
    assert any(says in note for note in notes) if says else not any("outputs" in n for n in notes)


def test_a_problem_that_is_not_known(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="problem_type is 'ranking'"):
        with_problem(folder, tmp_path, "ranking")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"activation": "softmax", "task": "multi-label"}, "independent labels"),
        ({"activation": "softmax", "task": "regression"}, "no classes"),
        ({"topk": 2, "task": "regression"}, "--topk"),
    ],
)
def test_a_choice_among_what_is_none(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Interface(**settings)


def test_a_softmax_of_one_output(tmp_path: Path) -> None:
    one = replace(POCKET, config=replace(POCKET.config, num_classes=1))
    with pytest.raises(ConfigError, match="is 1 whatever it sees"):
        ExportRequest(variant=one, out=tmp_path, interface=Interface(activation="softmax"))


def test_what_predict_makes_of_outputs() -> None:
    logits = np.array([[2.0, -1.0, 0.0]], np.float32)

    def scores(task: Task, given: Any = logits) -> tuple[list[float], bool]:
        found = to_prediction({"logits": given}, Interface(task=task), (), (None,), 3)
        return found.scores[0].tolist(), found.probabilities

    expected = np.sort(softmax(logits)[0])[::-1]
    assert scores("single-label") == (pytest.approx(expected.tolist()), True)
    sigmoid = [1 / (1 + np.exp(-v)) for v in (2.0, 0.0, -1.0)]
    assert scores("multi-label") == (pytest.approx(sigmoid, rel=1e-6), True)
    assert scores("regression") == ([2.0, -1.0, 0.0], False)
    assert scores("single-label", logits[:, :1]) == ([2.0], False)
    assert Interface(task="regression").plain
