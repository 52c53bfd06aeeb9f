"""Ways to get the export form wrong, each one that people do: to prove that gates bite."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from swin_deploy.network.export_form import attention, blocks, freeze, slabs
from swin_deploy.network.export_form import attention as linear
from swin_deploy.network.swin import StageGeometry


def wrong_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks of the windows are handed to the wrong windows."""
    init = attention.FrozenAttention.__init__

    def damaged(self: attention.FrozenAttention, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.bias = self.bias.flip(0).contiguous()

    monkeypatch.setattr(attention.FrozenAttention, "__init__", damaged)


def forgotten_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifted windows attend across the edges of the image."""
    init = attention.FrozenAttention.__init__

    def damaged(self: attention.FrozenAttention, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.bias = self.bias[self.bias.shape[0] // 2 :][:1].clamp(min=-50).contiguous()

    monkeypatch.setattr(attention.FrozenAttention, "__init__", damaged)


def forgotten_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The query is not divided by sqrt(d)."""
    for module in (linear, slabs):
        monkeypatch.setattr(module, "query_scale", lambda channels, heads: 1.0)


def swapped_query_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the projection are taken in the order k, q, v."""
    split, init = attention.PackedAttention.split, slabs.SlabAttention.__init__

    def damaged_split(self: attention.PackedAttention, x: torch.Tensor) -> object:
        q, key, v = split(self, x)
        return key, q, v

    def damaged_init(self: slabs.SlabAttention, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.weight.data = self.weight.data[[1, 0, 2]]

    monkeypatch.setattr(attention.PackedAttention, "split", damaged_split)
    monkeypatch.setattr(slabs.SlabAttention, "__init__", damaged_init)


def wrong_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows shift by one token less."""
    order = freeze.window_order

    def damaged(stage: StageGeometry, shift: tuple[int, int], rolls_first: bool) -> torch.Tensor:
        return order(stage, (max(0, shift[0] - 1), shift[1]), rolls_first)

    monkeypatch.setattr(freeze, "window_order", damaged)


def wrong_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens of a merged group come in row-major order."""
    groups = blocks.merge_groups

    def damaged(grid: object, there: torch.Tensor) -> torch.Tensor:
        return groups(grid, there)[[0, 2, 1, 3]]  # type: ignore[arg-type]

    monkeypatch.setattr(blocks, "merge_groups", damaged)


DAMAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    damage.__name__: damage
    for damage in (
        wrong_mask,
        forgotten_mask,
        forgotten_scale,
        swapped_query_and_key,
        wrong_shift,
        wrong_merge,
    )
}


def constant_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel that carries the biases of the projection is 0."""
    make = slabs.constant_channel

    def damaged(norm: nn.LayerNorm, channel: int, constant: int) -> nn.LayerNorm:
        copy = make(norm, channel, constant)
        copy.bias.data.zero_()
        return copy

    monkeypatch.setattr(slabs, "constant_channel", damaged)


def channel_of_another_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm writes its constant into another channel than the product expects."""
    make = slabs.constant_channel
    monkeypatch.setattr(
        slabs,
        "constant_channel",
        lambda norm, channel, constant: make(norm, (channel + 1) % len(norm.bias), constant),
    )


def forgotten_value_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias of the value is not in that of the output projection."""
    make = slabs.shifted
    monkeypatch.setattr(
        slabs, "shifted", lambda proj, bias, factor: make(proj, torch.zeros_like(bias), factor)
    )


def uneven_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output projection does not know what the values were multiplied by."""
    make = slabs.shifted
    monkeypatch.setattr(slabs, "shifted", lambda proj, bias, factor: make(proj, bias))


SLAB_DAMAGES = {
    d.__name__: d
    for d in (constant_of_zero, channel_of_another_norm, forgotten_value_bias, uneven_value)
}


def unscaled_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learned scale of V2 is forgotten."""
    init = attention.PackedCosineAttention.__init__

    def damaged(self: attention.PackedCosineAttention, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.root = torch.ones_like(self.root)

    monkeypatch.setattr(attention.PackedCosineAttention, "__init__", damaged)


def key_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the query of V2 is divided by its length."""
    length, calls = attention.length, itertools.count()

    def damaged(x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x[..., :1]) if next(calls) % 2 else length(x)

    monkeypatch.setattr(attention, "length", damaged)


def padding_that_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention sees some token where a window holds none."""
    monkeypatch.setattr(blocks.FrozenBlock, "_padded_with_zeros", lambda self, x: x)


def padding_on_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids roll first where they should be padded first, and the other way round."""
    order = freeze.window_order

    def damaged(stage: StageGeometry, shift: tuple[int, int], rolls_first: bool) -> torch.Tensor:
        return order(stage, shift, not rolls_first)

    monkeypatch.setattr(freeze, "window_order", damaged)


def merge_of_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond an odd side a merge takes some token in place of zeros."""
    init = blocks.FrozenMerge.__init__

    def damaged(self: blocks.FrozenMerge, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.present = None

    monkeypatch.setattr(blocks.FrozenMerge, "__init__", damaged)


COSINE_DAMAGES = {d.__name__: d for d in (unscaled_cosine, key_of_any_length)}
PADDED_DAMAGES = {
    d.__name__: d for d in (padding_that_speaks, padding_on_the_other_side, merge_of_a_stranger)
}
