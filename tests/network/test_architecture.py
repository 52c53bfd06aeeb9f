"""Grid arithmetic and the checks of a config, without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from conftest import CIFAR, OBLONG, PADDED, POCKET
from swin_deploy.core.errors import ConfigError
from swin_deploy.core.records import decode
from swin_deploy.network.catalogue import FAMILIES, VARIANTS, family_of, find_variant
from swin_deploy.network.interface import Size
from swin_deploy.network.swin import Semantics, SwinConfig, stage_geometry


def test_tiny_has_the_grids_of_the_paper() -> None:
    stages = stage_geometry(VARIANTS["swin_t"].config)
    assert [stage.grid for stage in stages] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert [stage.windows for stage in stages] == [64, 16, 4, 1]
    assert [stage.shift for stage in stages] == [(3, 3), (3, 3), (3, 3), (0, 0)]
    assert [stage.channels for stage in stages] == [96, 192, 384, 768]


def test_a_window_shrinks_to_a_smaller_grid_and_stops_shifting() -> None:
    stages = stage_geometry(CIFAR.config)
    assert [stage.grid for stage in stages] == [(8, 8), (4, 4), (2, 2)]
    assert [stage.window for stage in stages] == [(8, 8), (4, 4), (2, 2)]
    assert {stage.shift for stage in stages} == {(0, 0)}


def test_each_axis_shifts_by_itself() -> None:
    first, second = stage_geometry(OBLONG.config)
    assert (first.grid, first.shift) == ((8, 16), (2, 2))
    assert (second.grid, second.shift) == ((4, 8), (0, 2))


TINY = VARIANTS["swin_t"].config


@pytest.mark.parametrize(
    ("rules", "size", "windows", "shifts"),
    [
        # At 224x448 the last grid is 7x14: what shifts there tells the libraries apart.
        ({}, (224, 448), (7, 7), (0, 3)),
        ({"small_grids": "shrink_both", "stop_shift": "both"}, (224, 448), (7, 7), (0, 0)),
        ({"stop_shift": "never", "small_grids": "pad"}, (224, 448), (7, 7), (3, 3)),
        # At 96x224 it would be 3x7.
        ({"padding": "before_roll"}, (96, 224), (3, 7), (0, 0)),
        ({"padding": "before_roll", "small_grids": "shrink_both"}, (96, 224), (3, 3), (0, 0)),
        ({"padding": "before_roll", "small_grids": "pad"}, (96, 224), (7, 7), (0, 0)),
    ],
)
def test_the_rules_of_small_grids(
    rules: dict[str, Any], size: Size, windows: Size, shifts: Size
) -> None:
    config = replace(TINY, image_size=size, semantics=Semantics(**rules))
    last = stage_geometry(config)[-1]
    assert (last.window, last.shift) == (windows, shifts)


def test_small_grids_can_be_refused() -> None:
    rules = Semantics(padding="before_roll", small_grids="refuse", stop_shift="both")
    with pytest.raises(ConfigError, match="height 96 does not work: stage 3 has 6 tokens"):
        stage_geometry(replace(TINY, image_size=(96, 96), semantics=rules))


@pytest.mark.parametrize(
    ("remainder", "size", "grid"),
    [
        ("drop", (230, 250), (57, 62)),
        ("pad", (230, 250), (58, 63)),
        ("pad", (224, 250), (56, 63)),
        ("pad_both", (224, 250), (57, 63)),
        ("pad_both", (224, 252), (56, 63)),
    ],
)
def test_the_rules_of_patches(remainder: Any, size: Size, grid: Size) -> None:
    rules = Semantics(patch_remainder=remainder, padding="before_roll")
    first = stage_geometry(replace(TINY, image_size=size, semantics=rules))[0]
    assert first.grid == grid
    assert all(side % 7 == 0 for side in first.padded)
    assert first.windows == first.padded[0] * first.padded[1] // 49


def test_a_size_of_which_each_side_works_alone_is_refused_as_a_whole() -> None:
    rules = Semantics(small_grids="shrink_both", stop_shift="both")
    with pytest.raises(ConfigError, match="image 64x160 does not work") as caught:
        stage_geometry(
            SwinConfig(
                name="x",
                image_size=(64, 160),
                depths=(2,),
                num_heads=(3,),
                window_size=40,
                semantics=rules,
            )
        )
    assert "square" in caught.value.hint


MIXES = Semantics(merge_order="channels_last", padding="before_roll")


@pytest.mark.parametrize(
    ("size", "message"),
    [((224, 448), "square grids only"), ((220, 220), "55 tokens along it, which merging cannot")],
)
def test_merges_that_mix_tokens_take_even_squares(size: Size, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stage_geometry(replace(TINY, image_size=size, semantics=MIXES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version = 3"),
        ({"version": 2, "pretrained_window_sizes": (12,)}, "not one number per stage"),
        ({"pretrained_window_sizes": (1, 1, 1, 1)}, "not one number per stage of a V2"),
        ({"version": 2, "position_bias": False}, "position_bias = false"),
        ({"version": 2, "semantics": MIXES}, "channels_last is for version 1"),
        ({"embed_dim": 33, "num_heads": (1,) * 4, "semantics": MIXES}, "and an even embed_dim"),
        ({"num_classes": -1}, "must not be negative"),
    ],
)
def test_impossible_versions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SwinConfig(name="x", **change)


@pytest.mark.parametrize("value", [0.0, 100.0, float("-inf"), float("nan")])
def test_a_mask_that_masks_nothing_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="has to be finite and below 0"):
        Semantics(mask_value=value)


def test_a_config_survives_json() -> None:
    for variant in (*VARIANTS.values(), *PADDED.values(), CIFAR):
        values = json.loads(json.dumps(asdict(variant.config)))
        kind = FAMILIES[family_of(variant.config)]
        assert decode(kind, values, "manifest") == variant.config


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("size", "reason", "advice"),
    [
        ((230, 224), "height 230", "224 or 448"),
        ((224, 230), "width 230", "224 or 448"),
        ((231, 231), "not a multiple of the patch size 4", "224 or 448"),
        ((256, 256), "64 tokens along it, which windows of 7 do not tile", "window_size 2, 4, 8"),
        ((28, 28), "7 tokens along it, which merging cannot halve", "image size 224"),
    ],
)
def test_a_wrong_size_names_the_nearest_that_work(
    size: tuple[int, int], reason: str, advice: str
) -> None:
    config = replace(VARIANTS["swin_t"].config, image_size=size)
    with pytest.raises(ConfigError, match=reason) as caught:
        stage_geometry(config)
    assert advice in caught.value.hint


@pytest.mark.fault(13)
def test_the_sizes_that_an_error_names_do_work() -> None:
    with pytest.raises(ConfigError) as caught:
        stage_geometry(replace(POCKET.config, image_size=(72, 72)))
    assert caught.value.hint.startswith("image size 64 or 128")
    for size in (64, 128):
        stage_geometry(replace(POCKET.config, image_size=(size, size)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (2, 2)}, "depths has 2 stages and num_heads has 4"),
        ({"num_heads": (3, 6, 12, 25)}, r"num_heads\[3\] = 25 does not divide"),
        ({"depths": (2, 0, 6, 2)}, "needs values of at least 1"),
        ({"window_size": -7}, "window_size = -7 must be at least 1"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio = nan"),
        ({"mlp_ratio": 0.0}, "mlp_ratio = 0.0"),
        ({"image_size": (0, 224)}, "image_size"),
    ],
)
def test_impossible_values_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SwinConfig(name="x", **change)  # type: ignore[arg-type]


@pytest.mark.fault(43)
@pytest.mark.parametrize("name", ["", "..", "../up", "a b", "a\nb", ".hidden", "x" * 65])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder"):
        SwinConfig(name=name)


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown variant 'swin_tiny'") as caught:
        find_variant("swin_tiny")
    assert "swin_t" in caught.value.hint
