"""Transformers' Swin and Swinv2: what their folders compute here is what they compute."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from libraries import hugging_face_model, outputs_of, transformers
from parity import Case, Source, check, params, save_as


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
    Case(source=HUGGING_FACE, variant="swinv2_b_w8", told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w8", size=(230, 250), told=True),
    Case(source=HUGGING_FACE, variant="swinv2_b_w12to16", told=True),
    Case(source=BACKBONE, variant="swin_t"),
    Case(source=BACKBONE, variant="swin_t", size=(230, 250)),
    Case(source=BACKBONE, variant="swin_s"),
)


@pytest.mark.parametrize("case", params(CASES))
def test_folders_of_transformers_compute_what_it_computes(case: Case) -> None:
    check(case)
