"""Re-implementations that compute something of their own, rebuilt after their sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import berniwal
from berniwal import edge_mask
from parity import DAMAGED_DB, Case, Source, check, damaged, must_bite, open_case, params, save_as
from rebuilt_sources import run
from reimplementations import make_berniwal, make_csm_kr, training_checkpoint
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.checkpoints.dialect import TABLE
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from swin_deploy.network.swin import SwinConfig

BERNIWAL = Source(
    name="berniwal", dialect="berniwal", make=make_berniwal, save=save_as("pth"), run=run
)
CSM_KR = Source(
    name="csm-kr",
    dialect="csm-kr",
    make=make_csm_kr,
    save=save_as("pth", training_checkpoint),
    run=run,
)
BARE = (
    ("name", "custom"),
    ("qkv_bias", False),
    ("patch_norm", False),
    ("merge_norm", False),
    ("merge_bias", True),
    ("fc_norm", True),
)
EARLY = (
    ("name", "custom"),
    ("position_bias", False),
    ("merge_norm", False),
    ("merge_bias", True),
)
PLAIN = Case(source=BERNIWAL, variant="swin_t", size=(224, 224), changes=BARE)
CASES = (
    PLAIN,
    Case(source=BERNIWAL, variant="swin_t", size=(224, 451), changes=BARE),
    Case(source=CSM_KR, variant="swin_t"),
    Case(source=CSM_KR, variant="swin_t", size=(448, 448)),
    Case(source=CSM_KR, variant="swin_t", changes=EARLY),
)


@pytest.mark.parametrize("case", params(CASES, ()))
def test_their_files_compute_what_their_code_computes(case: Case) -> None:
    check(case)


BITES = (
    (PLAIN, {"stop_shift": "both"}),
    (PLAIN, {"merge_order": "columns"}),
    (Case(source=CSM_KR, variant="swin_t"), {"stop_shift": "both"}),
    (Case(source=CSM_KR, variant="swin_t"), {"merge_order": "columns"}),
    (Case(source=CSM_KR, variant="swin_t"), {"merge_order": "channels"}),
)


@pytest.mark.parametrize(("case", "changes"), BITES, ids=str)
def test_another_rule_computes_something_else(case: Case, changes: dict[str, Any]) -> None:
    must_bite(case, changes)


def test_positions_read_the_other_way_round_are_others() -> None:
    opened = open_case(PLAIN)
    tensors = {
        name: value.flip(0) if name.endswith(TABLE) else value
        for name, value in opened.checkpoint.tensors.items()
    }
    turned = replace(opened, checkpoint=replace(opened.checkpoint, tensors=tensors))
    assert damaged(turned) < DAMAGED_DB


SMALL = SwinConfig(
    name="small",
    image_size=(64, 64),
    embed_dim=32,
    depths=(2, 2),
    num_heads=(1, 2),
    window_size=4,
    num_classes=5,
)


def load(tmp_path: Path, tensors: dict[str, Tensor], **options: Any) -> Checkpoint:
    torch.save(tensors, tmp_path / "x.pth")
    options = {"image_size": SMALL.image_size} | options
    return load_checkpoint(tmp_path / "x.pth", LoadOptions(**options))


def test_its_masks_are_infinite(tmp_path: Path) -> None:
    """-100, as all others have, does not part tokens whose logits differ by hundreds.

    In FP64, since such logits amplify the rounding of FP32.
    """
    model = make_berniwal(SMALL)
    for module in model.modules():
        if isinstance(module, berniwal.Attention):
            module.to_qkv.weight[: 2 * module.to_qkv.in_features].mul_(12)
    found = load(tmp_path, model.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()

    def decibels(mask_value: float) -> float:
        semantics = replace(found.config.semantics, mask_value=mask_value)
        ours = model_from_tensors(replace(found.config, semantics=semantics), found.tensors)
        return sqnr_db(reference.numpy(), ours.double()(images).numpy())

    with torch.inference_mode():
        _, reference = model.double()(images)
        assert decibels(found.config.semantics.mask_value) > 200
        assert decibels(-100.0) < DAMAGED_DB


def test_heads_are_those_of_its_default_or_of_a_config(tmp_path: Path) -> None:
    tensors = make_berniwal(SMALL).state_dict()
    found = load(tmp_path, tensors)
    assert found.config.num_heads == (1, 2)
    assert any("do not tell num_heads, taken as (1, 2)" in note for note in found.notes)
    assert len(found.dropped) == 4  # two masks of each shifted block

    wanted = replace(found.config, num_heads=(2, 4))
    other = load(tmp_path, tensors, wanted=wanted)
    assert other.config.num_heads == (2, 4)
    assert other.tensors[f"layers.1.blocks.0.attn.{TABLE}"].shape == (49, 4)
    assert not any("num_heads" in note for note in other.notes)


Spoil = Callable[[dict[str, Tensor]], Any]
_ATTENTION = "stage1.layers.0.1.attention_block.fn.fn."


def spoil_mask(tensors: dict[str, Tensor]) -> None:
    tensors[f"{_ATTENTION}left_right_mask"] = edge_mask(4, 0)


BERNIWAL_SPOILT: dict[str, tuple[Spoil, str]] = {
    "another mask": (spoil_mask, "left_right_mask keeps other tokens apart"),
    "no masks": (
        lambda t: [t.pop(name) for name in [*t] if "_mask" in name],
        "it has no masks, which tell its windows",
    ),
    "other positions": (
        lambda t: t.update({f"{_ATTENTION}pos_embedding": torch.ones(5, 5)}),
        "windows of 16 tokens have 7x7 offsets",
    ),
    "wide heads": (
        lambda t: t.update({f"{_ATTENTION}to_qkv.weight": torch.ones(192, 32)}),
        "its heads have 64 channels together, and the stage has 32",
    ),
    "patches that are no squares": (
        lambda t: t.update({"stage1.patch_partition.linear.weight": torch.ones(32, 24)}),
        "so its patches are no squares of 3 colours",
    ),
    "another factor": (
        lambda t: t.update({"stage2.patch_partition.linear.weight": torch.ones(64, 288)}),
        r"reduction.weight is \(64, 288\), expected \(64, 128\)",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BERNIWAL_SPOILT.values(), ids=BERNIWAL_SPOILT)
def test_what_makes_another_network_is_refused(spoil: Spoil, message: str, tmp_path: Path) -> None:
    tensors = dict(make_berniwal(SMALL).state_dict())
    spoil(tensors)
    with pytest.raises(InputError, match=message):
        load(tmp_path, tensors)


def test_absolute_positions_are_refused(tmp_path: Path) -> None:
    """Windows of 5 have as many as relative ones of windows of 13: the masks tell them apart."""
    config = replace(SMALL, image_size=(80, 80), window_size=5, depths=(2,), num_heads=(1,))
    tensors = make_berniwal(config, relative=False).state_dict()
    with pytest.raises(InputError, match="bias for every two of the 25 tokens of a window"):
        load(tmp_path, tensors)


def test_heads_that_nothing_tells_are_asked_for(tmp_path: Path) -> None:
    tensors = make_berniwal(replace(SMALL, embed_dim=16)).state_dict()
    with pytest.raises(InputError, match="16 channels make no heads of 32") as caught:
        load(tmp_path, tensors)
    assert "--config FILE" in caught.value.hint


def test_windows_that_the_code_of_csm_kr_cannot_have_are_refused(tmp_path: Path) -> None:
    config = replace(SMALL, image_size=(56, 56), window_size=7)
    tensors = dict(make_csm_kr(config).state_dict())
    tensors["features.1.0.w_msa.relative_position_bias_table"] = torch.ones(49, 1)
    with pytest.raises(InputError, match="shifts by 3 and has windows of 7"):
        load(tmp_path, tensors)


def test_a_map_that_is_no_square_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, image_size=(56, 56), window_size=7)
    with pytest.raises(ConfigError, match="square grids only"):
        load(tmp_path, make_csm_kr(config).state_dict(), image_size=(56, 112))
