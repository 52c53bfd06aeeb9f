"""The frozen network computes what the eager one does, and a damaged one is far off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from conftest import SMALL
from damage import DAMAGES
from swin_deploy.architecture import stage_geometry
from swin_deploy.export_form.freeze import freeze_swin
from swin_deploy.export_form.order import invert, merge_groups, steps_between, window_order
from swin_deploy.metrics import sqnr_db
from swin_deploy.model.build import build_model
from swin_deploy.variants import VARIANTS, Variant
from swin_deploy.verify import FLOORS_DB

Noise = Callable[[Variant, int], np.ndarray]


def test_slots_run_over_the_token_in_the_window_first() -> None:
    order = window_order((4, 4), (2, 2), (0, 0))
    # Slot 0 to 3: the first token of each of the four windows.
    assert order[:4].tolist() == [0, 2, 8, 10]
    assert order.reshape(4, 4)[:, 0].tolist() == [0, 1, 4, 5]  # the four tokens of window 0


def test_a_shifted_window_starts_where_the_shift_says() -> None:
    assert window_order((4, 4), (2, 2), (1, 1))[0] == 5


def test_steps_lead_from_one_order_to_another() -> None:
    here, there = window_order((4, 4), (2, 2), (0, 0)), window_order((4, 4), (2, 2), (1, 1))
    assert torch.equal(here[steps_between(here, there)], there)
    assert torch.equal(here[invert(here)], torch.arange(16))


def test_merging_gathers_the_four_tokens_of_a_group() -> None:
    groups = merge_groups((4, 4), torch.arange(4))
    assert groups[:, 0].tolist() == [0, 4, 1, 5]  # (0, 0), (1, 0), (0, 1), (1, 1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", SMALL.values(), ids=SMALL.keys())
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_it_equals_the_eager_network_stage_by_stage(
    variant: Variant, batch: int, qkv_bias: bool, noise: Noise
) -> None:
    from dataclasses import replace

    eager = build_model(replace(variant.config, qkv_bias=qkv_bias))
    frozen = freeze_swin(eager)
    images = torch.from_numpy(noise(variant, batch))
    with torch.inference_mode():
        pairs = [*zip(eager.stages(images), frozen.stages(images), strict=True)]
        pairs.append((eager(images), frozen(images)))
    assert len(pairs) == len(stage_geometry(variant.config)) + 1
    for reference, candidate in pairs:
        assert sqnr_db(reference.numpy(), candidate.numpy()) >= FLOORS_DB["fp32"]


def test_constants_are_exact_and_norms_are_shared() -> None:
    """What is too small for any floor, an epsilon or a mask of -20, is right by construction."""
    eager = build_model(SMALL["pocket"].config)
    frozen = freeze_swin(eager)
    for layer, frozen_layer in zip(eager.layers, frozen.layers, strict=True):
        for block, frozen_block in zip(layer.blocks, frozen_layer.blocks, strict=True):
            bias = block.attn.position_bias()
            expected = bias[None] if block.mask is None else bias + block.mask[:, None]
            assert torch.equal(frozen_block.bias[:, 0], expected)
            assert frozen_block.norm1 is block.norm1
            assert frozen_block.norm2 is block.norm2
            assert frozen_block.mlp is block.mlp
        if layer.downsample is not None:
            merge = frozen.layers[[*eager.layers].index(layer) + 1].enter
            assert merge.norm is layer.downsample.norm
    assert frozen.norm is eager.norm


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_of_a_real_network_misses_even_the_fp16_floor(
    damage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, noise: Noise
) -> None:
    eager = build_model(VARIANTS["swin_t"].config)
    images = torch.from_numpy(noise(VARIANTS["swin_t"], 2))
    damage(monkeypatch)
    with torch.inference_mode():
        frozen = freeze_swin(eager)
        found = sqnr_db(eager(images).numpy(), frozen(images).numpy())
        pairs = zip(eager.stages(images), frozen.stages(images), strict=True)
        worst_map = min(sqnr_db(a.numpy(), b.numpy()) for a, b in pairs)
    assert found < FLOORS_DB["fp16"] - 5
    assert worst_map < FLOORS_DB["fp16"] - 5


def test_freezing_leaves_the_eager_network_alone() -> None:
    eager = build_model(SMALL["pocket"].config)
    before = {key: value.clone() for key, value in eager.state_dict().items()}
    freeze_swin(eager)
    assert all(torch.equal(value, before[key]) for key, value in eager.state_dict().items())


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_form_misses_the_floor_by_far(
    damage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, noise: Noise
) -> None:
    """A tolerance that a wrong network also meets tests nothing."""
    variant = SMALL["pocket"]
    eager = build_model(variant.config)
    damage(monkeypatch)
    frozen = freeze_swin(eager)
    images = torch.from_numpy(noise(variant, 2))
    with torch.inference_mode():
        found = sqnr_db(eager(images).numpy(), frozen(images).numpy())
    assert found < FLOORS_DB["fp32"] - 40
