"""Grid arithmetic and the checks of a config, without torch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import CIFAR, OBLONG, POCKET
from swin_deploy.architecture import SwinConfig
from swin_deploy.errors import ConfigError
from swin_deploy.geometry import stage_geometry
from swin_deploy.variants import VARIANTS, find_variant


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


@pytest.mark.parametrize("name", ["", "..", "../up", "a b", "a\nb", ".hidden", "x" * 65])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder"):
        SwinConfig(name=name)


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown variant 'swin_tiny'") as caught:
        find_variant("swin_tiny")
    assert "swin_t" in caught.value.hint
