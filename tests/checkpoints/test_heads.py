"""Classifiers as tutorials make them, under any name and of several layers, against the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from head_networks import CLASSES, KNOWN, RELU, Beside, C, backbone, fill, one, timm_head, two
from libraries import randomise
from small_timm import small_timm
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.judge import FLOORS_DB, sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from swin_deploy.network.swin import SwinConfig
from timm_models import import_timm
from torch_files import save

IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
DAMAGED_DB = 40.0


def read(tmp_path: Path, tensors: Any, options: LoadOptions = RELU) -> Checkpoint:
    path = save(tmp_path / f"{len(list(tmp_path.iterdir()))}.pth", dict(tensors))
    return load_checkpoint(path, replace(options, image_size=(64, 64)))


def decibels(found: Checkpoint, expected: Tensor, **changes: Any) -> float:
    """The worst of the eager network and both of its export forms."""
    assert isinstance(found.config, SwinConfig)
    model = model_from_tensors(replace(found.config, **changes), found.tensors)
    with torch.inference_mode():
        outputs = [
            form(IMAGES) for form in (model, freeze(model, "packed"), freeze(model, "slabs"))
        ]
    return min(sqnr_db(expected.numpy(), output.numpy()) for output in outputs)


@pytest.mark.parametrize(("make", "options", "name"), KNOWN.values(), ids=KNOWN.keys())
def test_the_head_is_found_and_computes_what_the_library_does(
    tmp_path: Path, make: Callable[[], nn.Module], options: LoadOptions, name: str
) -> None:
    network = fill(make()).eval()
    with torch.inference_mode():
        expected = network(IMAGES)
    found = read(tmp_path, network.state_dict(), options)
    assert found.config.num_classes == CLASSES
    assert any(note.startswith(f"head: {name}") for note in found.notes), found.notes
    assert not [name for name in found.dropped if "relative_position_index" not in name]
    assert decibels(found, expected) >= FLOORS_DB["fp32"]


def test_another_activation_is_another_network(tmp_path: Path) -> None:
    network = fill(timm_head(two())).eval()
    with torch.inference_mode():
        expected = network(IMAGES)
    for other in ("gelu", "tanh", "silu", "none"):
        found = read(tmp_path, network.state_dict(), LoadOptions(head_activation=other))  # type: ignore[arg-type]
        assert decibels(found, expected) < DAMAGED_DB


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_heads_one_is_to_be_named(tmp_path: Path, backwards: bool) -> None:
    network = fill(Beside(backbone(), a=one(), b=nn.Linear(C, 3)))
    network.order = ("b",)  # type: ignore[assignment]
    tensors = network.state_dict()
    if backwards:
        tensors = dict(reversed(tensors.items()))  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"a \(5 outputs\), b \(3 outputs\)") as caught:
        read(tmp_path, tensors, LoadOptions())
    assert caught.value.hint == "--head a or --head b"
    with torch.inference_mode():
        expected = network(IMAGES)
    found = read(tmp_path, tensors, LoadOptions(head="b"))
    assert decibels(found, expected) >= FLOORS_DB["fp32"]
    assert {"a.weight", "a.bias"} <= {*found.dropped}
    wrong = read(tmp_path, tensors, LoadOptions(head="a"))
    assert wrong.config.num_classes == CLASSES
    assert read(tmp_path, tensors, LoadOptions(head="none")).config.num_classes == 0


BESIDE_A_HEAD = {
    "metric learning": {"arcface.weight": (9, C)},
    "a projection": {"projection.weight": (16, C), "projection.bias": (16,)},
    "a list of heads": {"heads.0.weight": (4, C), "heads.1.weight": (3, C)},
}


@pytest.mark.parametrize("others", BESIDE_A_HEAD.values(), ids=BESIDE_A_HEAD.keys())
def test_what_could_be_the_head_beside_the_librarys_own_is_not_chosen_between(
    tmp_path: Path, others: dict[str, tuple[int, ...]]
) -> None:
    tensors = small_timm().state_dict() | {n: torch.ones(s) for n, s in others.items()}
    with pytest.raises(InputError, match=r"head\.fc \(3 outputs\)") as caught:
        read(tmp_path, tensors, LoadOptions())
    assert "--head head.fc or --head" in caught.value.hint
    found = read(tmp_path, tensors, LoadOptions(head="head.fc"))
    assert {*others} <= {*found.dropped}
    assert torch.equal(found.tensors["head.weight"], tensors["head.fc.weight"])


def test_a_decoder_has_no_head(tmp_path: Path) -> None:
    """Though some of its layers read as many channels as leave the network."""
    others = nn.ModuleDict(
        {
            "decoder": nn.TransformerDecoderLayer(C, 2, 128),
            "queries": nn.Embedding(4, 24),
            "mask": nn.Conv2d(C, 1, 1),
            "boxes": nn.Linear(24, 4),
        }
    )
    tensors = {f"backbone.{n}": v for n, v in backbone().state_dict().items()}
    found = read(tmp_path, tensors | others.state_dict(), LoadOptions())
    assert found.config.num_classes == 0


def random(*shape: int) -> Tensor:
    return torch.randn(shape)


REFUSED: dict[str, tuple[dict[str, Any], LoadOptions, str, str]] = {
    "an activation is not said": (
        {"fc.0.weight": random(8, C), "fc.2.weight": random(3, 8)},
        LoadOptions(),
        "fc is a head of 2 linear layers",
        "--head-activation relu (or gelu, tanh, silu, none)",
    ),
    "one is said of one layer": (
        {"fc.0.weight": random(3, C)},
        RELU,
        "fc.0 has one linear layer",
        "no --head-activation",
    ),
    "a list of modules": (
        {"fc.0.weight": random(8, C), "fc.1.weight": random(3, 8)},
        LoadOptions(),
        "fc is a head of 2 linear layers",
        "--head-activation relu (or gelu, tanh, silu, none)",
    ),
    "a norm beside it": (
        {
            "classifier.weight": random(3, C),
            "neck.weight": random(C),
            "neck.running_mean": random(C),
            "neck.running_var": random(C).abs() + 0.5,
        },
        LoadOptions(),
        "neck may stand before or behind classifier",
        "--head neck,classifier or --head classifier, to leave it out",
    ),
    "a temperature": (
        {"fc.weight": random(3, C), "temperature": random(1)},
        LoadOptions(),
        "temperature may stand before or behind fc",
        "--head fc, to leave it out",
    ),
    "thresholds of an ordinal head": (
        {"fc.weight": random(1, C), "thresholds": random(4)},
        LoadOptions(),
        "thresholds may stand before or behind fc",
        "--head fc, to leave it out",
    ),
    "a PReLU between": (
        {"a.weight": random(8, C), "prelu.weight": random(1), "b.weight": random(3, 8)},
        LoadOptions(head="a,b", head_activation="relu"),
        "prelu holds one value",
        "--head none, for the backbone",
    ),
    "a power of the pooling": (
        {"fc.weight": random(3, C), "pool.p": random(1)},
        LoadOptions(),
        "pool may stand before or behind fc",
        "--head fc, to leave it out",
    ),
    "cosines": (
        {"arcface.weight": random(3, C)},
        LoadOptions(),
        "arcface has no bias and the name of a metric loss",
        "--head none --outputs embedding, or --head arcface for a plain layer",
    ),
    "a weight that is computed": (
        {"fc.weight_g": random(3, 1), "fc.weight_v": random(3, C), "fc.bias": random(3)},
        LoadOptions(),
        "whose weight is computed in every call",
        "torch.nn.utils.remove_weight_norm(layer), and the state_dict saved; or --head none, for "
        "the backbone",
    ),
    "one is said of a backbone": ({}, RELU, "has no head", "no --head-activation"),
    "no such head": ({"fc.weight": random(3, C)}, LoadOptions(head="f"), "called f", "--head fc"),
    "another width": (
        {"fc.weight": random(3, C), "x.weight": random(3, 7)},
        LoadOptions(head="x"),
        "x is no row of layers behind 64 channels: x 7 to 3",
        "--head fc",
    ),
    "what follows may belong to it": (
        {"neck.fc.weight": random(7, C), "out.weight": random(3, 7)},
        LoadOptions(),
        "out may take what neck.fc gives, as 7 channels",
        "--head neck.fc,out --head-activation relu",
    ),
    "a LayerNorm": (
        {"fc.0.weight": random(C), "fc.0.bias": random(C), "fc.1.weight": random(3, C)},
        LoadOptions(),
        "fc.1 may be its head",
        "--head none",
    ),
    "an activation on either side of a norm": (
        {
            "fc.0.weight": random(8, C),
            **{f"fc.2.{k}": torch.rand(8) for k in ("weight", "bias", "running_mean")},
            "fc.2.running_var": torch.ones(8),
            "fc.4.weight": random(3, 8),
        },
        RELU,
        "fc.2 is a BatchNorm, and no file says on which side",
        "",
    ),
    "some have something between": (
        {"fc.0.weight": random(8, C), "fc.1.weight": random(8, 8), "fc.3.weight": random(3, 8)},
        RELU,
        "between some of its linear layers",
        "",
    ),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("others", "options", "problem", "hint"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_is_not_told_is_asked_for(
    tmp_path: Path,
    others: dict[str, Any],
    options: LoadOptions,
    problem: str,
    hint: str,
    backwards: bool,
) -> None:
    tensors = {f"backbone.{n}": v for n, v in backbone().state_dict().items()} | others
    if backwards:
        tensors = dict(reversed(tensors.items()))
    with pytest.raises(InputError, match=problem) as caught:
        read(tmp_path, tensors, options)
    assert caught.value.hint.startswith(hint)


def test_a_vit_has_its_head_where_it_is(tmp_path: Path) -> None:
    timm = import_timm()
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=64, embed_dim=192, depth=12, num_heads=3, num_classes=2
    )
    with pytest.raises(ConfigError, match="ViT"):
        read(tmp_path, randomise(vit).state_dict(), LoadOptions(head="fc"))


def test_options_are_written_as_they_were_given() -> None:
    words = LoadOptions(head="a,b", head_activation="relu").written()
    assert words == ["--head", "a,b", "--head-activation", "relu"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"head_activation": "relu"}, "of several layers"),
        ({"head_hidden": (0,)}, "at least 1"),
        ({"head_hidden": (8,), "num_classes": 0}, "and classes"),
        ({"head_hidden": (8,), "head_activation": "mish"}, "is none of"),
    ],
)
def test_heads_that_cannot_be(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        SwinConfig(name="x", **fields)
