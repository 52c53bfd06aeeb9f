"""MLPs with exact GELU or its approximation by tanh, as what lies beside the weights says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import POCKET, Silent
from libraries import randomise, transformers
from no_downloads import Downloads
from swin_deploy.core.errors import ConfigError, InputError, VerificationError
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.load import Checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import load_source
from swin_deploy.network.checkpoints.source import with_hints
from swin_deploy.network.export_form import blocks
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model, model_from_tensors
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import run_export
from timm_models import import_timm

SIZES: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4)}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
DAMAGED_DB = 80.0  # the two functions differ by less than 0.0005

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.searchsorted"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
]


class Logits(nn.Module):
    """A classifier of transformers that gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image).logits  # type: ignore[no-any-return]


def of_transformers(folder: Path, act: str) -> nn.Module:
    with transformers() as library:
        config = library.SwinConfig(image_size=64, window_size=4, hidden_act=act, **SIZES)
        model = randomise(library.SwinForImageClassification(config))
        model.save_pretrained(folder)  # type: ignore[operator]
    return Logits(model)


def of_timm(folder: Path, act: str) -> nn.Module:
    """A repository as timm writes it, of a V2."""
    timm = import_timm()
    told = SIZES | {"img_size": 64, "window_size": 4, "num_classes": 3, "act_layer": act}
    model = randomise(timm.create_model("swinv2_tiny_window8_256", **told))
    timm.models.save_for_hf(model, folder, model_args=told | {"num_classes": 3})
    return model


def load(folder: Path, **options: Any) -> Checkpoint:
    source = resolve_source(str(folder), None, Downloads())
    return load_source(source, with_hints(LoadOptions(**options), source))


def decibels(network: nn.Module, found: Checkpoint, **changes: Any) -> float:
    assert isinstance(found.config, SwinConfig)
    ours = model_from_tensors(replace(found.config, **changes), found.tensors)
    with torch.inference_mode():
        expected = network(IMAGES).numpy()
        forms = (ours, freeze(ours, "packed"), freeze(ours, "slabs"))
        return min(sqnr_db(expected, form(IMAGES).numpy()) for form in forms)


WRITERS: dict[str, tuple[Callable[[Path, str], nn.Module], str, str]] = {
    **{
        f"transformers, {act}": (of_transformers, act, "gelu_tanh")
        for act in ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast")
    },
    "transformers, gelu": (of_transformers, "gelu", "gelu"),
    "timm, gelu_tanh": (of_timm, "gelu_tanh", "gelu_tanh"),
    "timm, gelu": (of_timm, "gelu", "gelu"),
}


@pytest.mark.parametrize(("make", "act", "ours"), WRITERS.values(), ids=WRITERS.keys())
def test_the_function_is_the_one_that_is_said(
    tmp_path: Path, make: Callable[[Path, str], nn.Module], act: str, ours: str
) -> None:
    network = make(tmp_path, act)
    found = load(tmp_path)
    assert found.config.activation == ours  # type: ignore[union-attr]
    assert any("gelu_tanh" in note for note in found.notes) == (ours == "gelu_tanh")
    assert decibels(network, found) >= FLOORS_DB["fp32"]
    other = "gelu" if ours == "gelu_tanh" else "gelu_tanh"
    assert decibels(network, found, activation=other) < DAMAGED_DB


def test_what_is_written_has_to_agree(tmp_path: Path) -> None:
    of_timm(tmp_path, "gelu_tanh")
    wanted = load(tmp_path).config
    assert load(tmp_path, wanted=wanted, stated=("activation",)).config == wanted
    other = replace(wanted, activation="gelu")  # type: ignore[call-arg]
    with pytest.raises(InputError, match="has activation = gelu_tanh, and the config says gelu"):
        load(tmp_path, wanted=other, stated=("activation",))


@pytest.mark.parametrize(
    ("architecture", "act"), [("swinv2_tiny_window8_256", "relu"), ("swin_tiny", "gelu_tanh")]
)
def test_others_are_refused_by_name(tmp_path: Path, architecture: str, act: str) -> None:
    of_timm(tmp_path, "gelu")
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content |= {"architecture": architecture}
    content["model_args"]["act_layer"] = act
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"model_args.act_layer is '{act}'"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="'relu' is none of gelu, gelu_tanh"):
        SwinConfig(name="x", activation="relu")  # type: ignore[arg-type]


def test_the_gate_tells_the_two_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(POCKET.config, activation="gelu_tanh")  # type: ignore[call-arg]
    request = ExportRequest(
        variant=replace(POCKET, config=config),
        out=tmp_path / "run",
        precisions=("fp32",),
        targets=("cpu",),
    )
    result = run_export(request, Silent())
    assert result.header["variant"]["activation"] == "gelu_tanh"
    made = blocks.FrozenBlock.__init__

    def exact(self: blocks.FrozenBlock, *args: Any) -> None:
        made(self, *args)
        self.mlp = copy.copy(self.mlp)
        self.mlp.approximate = "none"

    monkeypatch.setattr(blocks.FrozenBlock, "__init__", exact)
    assert freeze(build_model(config), "slabs") is not None
    with pytest.raises(VerificationError, match="form"):
        run_export(replace(request, out=tmp_path / "other"), Silent())
