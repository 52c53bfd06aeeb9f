"""Ways to get the export form wrong, each one that people do: to prove that gates bite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from swin_deploy.export_form import attention, blocks, freeze
from swin_deploy.geometry import StageGeometry


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
    monkeypatch.setattr(attention, "scaled_query", lambda qkv, stage: qkv)


def swapped_query_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the projection are taken in the order k, q, v."""
    scaled = attention.scaled_query

    def damaged(qkv: nn.Linear, stage: StageGeometry) -> nn.Linear:
        layer, c = scaled(qkv, stage), stage.channels
        rows = torch.cat([torch.arange(c, 2 * c), torch.arange(c), torch.arange(2 * c, 3 * c)])
        bias = None if layer.bias is None else layer.bias[rows]
        return attention.linear(layer.weight[rows], bias)

    monkeypatch.setattr(attention, "scaled_query", damaged)


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


def unscaled_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learned scale of V2 is forgotten."""
    init = attention.FrozenCosineAttention.__init__

    def damaged(self: attention.FrozenCosineAttention, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        self.scales = torch.ones_like(self.scales)

    monkeypatch.setattr(attention.FrozenCosineAttention, "__init__", damaged)


def key_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the query of V2 becomes a unit vector."""

    def damaged(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[0] / x[0].norm(dim=-1, keepdim=True), x[1]])

    monkeypatch.setattr(attention, "unit", damaged)


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
