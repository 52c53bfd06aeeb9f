"""Transformers' Swin and Swinv2: what their folders compute here is what they compute."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from libraries import hugging_face_model, outputs_of, transformers
from parity import (
    DAMAGED_DB,
    Case,
    Source,
    check,
    damaged,
    must_bite,
    noise,
    open_case,
    params,
    save_as,
)
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.swin import SwinConfig


def save(model: nn.Module, folder: Path) -> Path:
    with transformers():
        model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def run(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    layers = model.base_model.encoder.layers
    stages, output = outputs_of(model, [layer.blocks[-1] for layer in layers], images)
    return stages, output.logits


def feature_maps(model: nn.Module, images: Tensor) -> tuple[list[Tensor], None]:
    return [features.permute(0, 2, 3, 1) for features in model(images).feature_maps], None


HUGGING_FACE = Source(
    name="transformers",
    dialect="Hugging Face",
    make=hugging_face_model,
    save=save,
    run=run,
)
IN_MEMORY = replace(HUGGING_FACE, name="transformers, module", save=save_as("bin"))
BACKBONE = Source(
    name="transformers, backbone",
    dialect="Hugging Face, backbone",
    make=partial(hugging_face_model, backbone=True),
    save=save,
    run=feature_maps,
    classifies=False,
    stage_norms=True,
)
# That of V2 has no norms of its own; its keys are those of a classifier without its head.
BACKBONE_V2 = replace(BACKBONE, dialect="Hugging Face", stage_norms=False)

CASES = (
    Case(source=HUGGING_FACE, variant="swin_t"),
    Case(source=HUGGING_FACE, variant="swin_t", size=(230, 250)),
    Case(source=HUGGING_FACE, variant="swin_t", size=(224, 448)),
    Case(source=IN_MEMORY, variant="swin_t"),
    Case(source=HUGGING_FACE, variant="swin_s"),
    Case(source=HUGGING_FACE, variant="swin_b"),
    Case(source=HUGGING_FACE, variant="swin_b_384"),
    Case(source=HUGGING_FACE, variant="swin_l"),
    Case(source=HUGGING_FACE, variant="swin_b", size=(230, 250)),
    Case(source=HUGGING_FACE, variant="swinv2_t_w8", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_t_w8", size=(230, 250), told=True),
    Case(source=HUGGING_FACE, variant="swinv2_t_w16", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_s_w8", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_s_w16", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w8", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w8", size=(230, 250), told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w16", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w12to16", told=True),
    Case(source=BACKBONE, variant="swin_t"),
    Case(source=BACKBONE, variant="swin_t", size=(230, 250)),
    Case(source=BACKBONE, variant="swin_s"),
    Case(source=BACKBONE_V2, variant="swinv2_t_w8", told=True),
    Case(source=BACKBONE_V2, variant="swinv2_t_w8", size=(230, 250), told=True),
)
LARGE = (
    "transformers swin_b_384 384x384",
    "transformers swinv2_b_w12to16 256x256",
)


@pytest.mark.parametrize("case", params(CASES, LARGE))
def test_folders_of_transformers_compute_what_it_computes(case: Case) -> None:
    check(case)


BITES = (
    (Case(source=HUGGING_FACE, variant="swin_t", size=(230, 250)), {"padding": "after_roll"}),
    (Case(source=HUGGING_FACE, variant="swin_t", size=(230, 250)), {"patch_remainder": "drop"}),
    (Case(source=HUGGING_FACE, variant="swin_t", size=(224, 448)), {"stop_shift": "axis"}),
    (Case(source=BACKBONE, variant="swin_t"), {"stop_shift": "both"}),
)


@pytest.mark.parametrize(("case", "changes"), BITES, ids=str)
def test_another_rule_computes_something_else(case: Case, changes: dict[str, Any]) -> None:
    must_bite(case, changes)


def polarised(config: SwinConfig) -> nn.Module:
    """Cosines of -1 and 1 only, by the side of the image that a key is on, at the largest scale.

    There a mask of -100 does not hide a token: 100 - 100 is more than -100.
    """
    model = hugging_face_model(config)
    for layer in model.swinv2.encoder.layers:
        for block in layer.blocks:
            attention = block.attention.self
            attention.logit_scale.fill_(5.0)
            direction = attention.query.bias.mul_(100)
            attention.key.weight.copy_(direction[:, None] * attention.key.weight[:1])
    return model


def test_v2_adds_its_mask_twice() -> None:
    case = Case(source=replace(HUGGING_FACE, make=polarised), variant="swinv2_t_w8", told=True)
    images = 0.1 * noise(case)
    images[..., :128] += 1
    images[..., 128:] -= 1
    opened = open_case(case, images)
    assert opened.compare().worst >= FLOORS_DB["fp32"]
    assert damaged(opened, mask_value=-100.0) < DAMAGED_DB
