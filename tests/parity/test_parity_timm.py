"""timm's Swin V1 and V2: what its files compute here is what it computes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from libraries import outputs_of, timm_model
from parity import (
    DAMAGED_DB,
    Case,
    Source,
    check,
    damaged,
    must_bite,
    open_case,
    params,
    save_as,
)
from swin_deploy.core.errors import InputError
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.model import attention as attention_v2
from swin_deploy.network.model.swin import SwinTransformer


def run(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Each stage of timm begins with the merge of the one before."""
    return outputs_of(model, list(model.layers), images)


def wrapped(model: nn.Module) -> dict[str, Any]:
    """As a compiled model saves itself from parallel training."""
    return {"state_dict": {f"module._orig_mod.{k}": v for k, v in model.state_dict().items()}}


TIMM = Source(
    name="timm",
    dialect="timm, 0.9 or later",
    make=timm_model,
    save=save_as("safetensors"),
    run=run,
)
WRAPPED = replace(TIMM, name="timm, in wrappers", save=save_as("pth", wrapped))
V1 = [name for name in VARIANTS if name.startswith("swin_") and name != "swin_pocket"]
V2 = [name for name in VARIANTS if name.startswith("swinv2_")]

CASES = (
    *(Case(source=TIMM, variant=name) for name in V1),
    *(Case(source=TIMM, variant=name, told=True) for name in V2),
    Case(source=WRAPPED, variant="swin_t"),
    Case(source=TIMM, variant="swin_t", size=(230, 250)),
    Case(source=TIMM, variant="swin_t", size=(224, 448)),
    Case(source=TIMM, variant="swin_t", size=(112, 224)),
    Case(source=TIMM, variant="swin_s", size=(230, 250)),
    Case(source=TIMM, variant="swinv2_t_w8", size=(230, 250), told=True),
    Case(source=TIMM, variant="swinv2_t_w8", size=(128, 256), told=True),
    Case(source=TIMM, variant="swinv2_b_w12to16", size=(230, 250), told=True),
)
LARGE = (
    "timm swin_b_384 384x384",
    "timm swinv2_b_w12to16 256x256",
)


@pytest.mark.parametrize("case", params(CASES, LARGE))
def test_files_of_timm_compute_what_it_computes(case: Case) -> None:
    check(case)


BITES = (
    (Case(source=TIMM, variant="swin_t", size=(230, 250)), {"padding": "before_roll"}),
    (Case(source=TIMM, variant="swin_t", size=(230, 250)), {"patch_remainder": "pad"}),
    (Case(source=TIMM, variant="swin_t", size=(224, 448)), {"stop_shift": "both"}),
    (Case(source=TIMM, variant="swin_t"), {"stop_shift": "never"}),
    (
        Case(source=TIMM, variant="swinv2_t_w8", size=(128, 256), told=True),
        {"small_grids": "shrink_both"},
    ),
)


@pytest.mark.parametrize(("case", "changes"), BITES, ids=str)
def test_another_rule_computes_something_else(case: Case, changes: dict[str, Any]) -> None:
    must_bite(case, changes)


def test_logit_scales_beyond_the_clamp_are_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_case(Case(source=TIMM, variant="swinv2_t_w8", told=True))
    monkeypatch.setattr(attention_v2, "MAX_LOGIT_SCALE", math.inf)
    assert damaged(opened) < DAMAGED_DB


@pytest.mark.parametrize("size", "tsbl")
def test_without_its_name_a_v2_is_refused_and_its_candidates_are_named(
    size: str, tmp_path: Path
) -> None:
    candidates = [name for name in V2 if name.startswith(f"swinv2_{size}_")]
    with torch.device("meta"):
        model = SwinTransformer(VARIANTS[candidates[0]].config)
    tensors = {
        name.replace("head.", "head.fc."): torch.ones(()).expand(value.shape)
        for name, value in model.named_parameters()
    }
    for stage in (3, 2, 1):  # timm's merges begin a stage
        for name in [name for name in tensors if name.startswith(f"layers.{stage - 1}.downsample")]:
            tensors[name.replace(str(stage - 1), str(stage), 1)] = tensors.pop(name)
    path = tmp_path / "checkpoint.pth"
    torch.save(tensors, path)
    with pytest.raises(InputError, match="do not tell window_size") as refusal:
        load_checkpoint(path)
    assert refusal.value.hint == f"--variant {' or '.join(candidates)}"
