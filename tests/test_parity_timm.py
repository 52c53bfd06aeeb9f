"""timm's Swin V1 and V2: what its files compute here is what it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from libraries import outputs_of, timm_model
from parity import Case, Source, check, open_case, params, save_as
from swin_deploy.checkpoints.load import load_checkpoint
from swin_deploy.errors import InputError
from swin_deploy.model.swin import SwinTransformer
from swin_deploy.variants import VARIANTS
from swin_deploy.verify import FLOORS_DB


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


@pytest.mark.parametrize("case", params(CASES))
def test_files_of_timm_compute_what_it_computes(case: Case) -> None:
    check(case)
