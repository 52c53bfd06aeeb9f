"""Windows on an axis of their own: the stream (b, k * n, c), the token in the window fastest.

The obvious window-order stream. Fused attentions read and write tensors whose token axis is the
slowest, so that here all three are copied there, and where there is more than one image the result
is copied back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fusion.parts import layer
from swin_deploy.errors import ConfigError
from swin_deploy.export_form.linear import scaled_query
from swin_deploy.export_form.order import invert, merge_groups, steps_between, window_order
from swin_deploy.geometry import StageGeometry, stage_geometry
from swin_deploy.model.blocks import PatchMerging, SwinBlock
from swin_deploy.model.swin import SwinTransformer


class ImagesFirst(nn.Module):
    """A whole V1 of grids that windows tile: image -> logits.

    Args:
        model: The trained network.
        heads_first: Whether the rows of the packed projections are in the order (head, 3, d).
    """

    def __init__(self, model: SwinTransformer, heads_first: bool = False) -> None:
        super().__init__()
        geometry: Any = stage_geometry(model.config)
        if any(stage.is_padded for stage in geometry):
            raise ConfigError("this form has no padding", "an image size that tiles")
        self.side, self.first = model.config.patch_size, geometry[0]
        self.embed = layer(model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias)
        self.parts = nn.ModuleList(_parts(model, geometry, heads_first))
        self.embed_norm, self.norm, self.head = model.patch_embed.norm, model.norm, model.head
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        (p, q), (h, w), side = self.first.window, self.first.grid, self.side
        channels = image.shape[1]
        x = image.reshape(-1, channels, h // p, p, side, w // q, q, side)
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, h * w, channels * side**2)
        x = self.embed_norm(self.embed(x))
        for part in self.parts:
            x = part(x)
        return self.head(self.norm(x).mean(dim=1))  # type: ignore[no-any-return]


def _parts(
    model: SwinTransformer, geometry: tuple[StageGeometry, ...], heads_first: bool
) -> Iterator[nn.Module]:
    here = order_of(geometry[0], (0, 0))
    for stage, grid in zip(model.layers, geometry, strict=True):
        for block in stage.blocks:
            there = order_of(grid, block.shift)
            yield Block(block, steps_between(here, there), heads_first)
            here = there
        if stage.downsample is not None:
            there = order_of(geometry[geometry.index(grid) + 1], (0, 0))
            yield Merge(stage.downsample, grid, here, there)
            here = there


def order_of(stage: StageGeometry, shift: tuple[int, int]) -> Tensor:
    """As ``window_order``, but the token in the window fastest."""
    order = window_order(stage, shift, rolls_first=False)
    return order.view(stage.window_tokens, stage.windows).t().reshape(-1)


class Block(nn.Module):
    """(b, k * n, c) in some order -> the same in the order of this block."""

    def __init__(self, block: SwinBlock, steps: Tensor, heads_first: bool) -> None:
        super().__init__()
        self.stage, self.heads_first = block.stage, heads_first
        self.register_buffer("steps", None if bool((steps.diff() == 1).all()) else steps)
        bias = block.attn.position_bias()[None, None]
        bias = bias if block.mask is None else bias + block.mask[None, :, None]
        self.register_buffer("bias", bias.clone())  # (1, k or 1, a, n, n)
        a, c = block.stage.heads, block.stage.channels
        qkv: Any = scaled_query(block.attn.qkv, a)
        if heads_first:
            rows = torch.arange(3 * c).view(3, a, c // a).transpose(0, 1).flatten()
            qkv = layer(qkv.weight[rows], None if qkv.bias is None else qkv.bias[rows])
        self.qkv, self.proj = qkv, block.attn.proj
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        n, k, a, c = (
            *(self.stage.window_tokens, self.stage.windows),
            *(self.stage.heads, self.stage.channels),
        )
        if self.steps is not None:
            x = x.index_select(1, self.steps)
        packed = self.qkv(self.norm1(x))
        if self.heads_first:
            parts = packed.reshape(-1, k, n, a, 3, c // a).permute(4, 0, 1, 3, 2, 5)
        else:
            parts = packed.reshape(-1, k, n, 3, a, c // a).permute(3, 0, 1, 4, 2, 5)
        q, key, v = parts.unbind(0)  # (b, k, a, n, d) each
        weights = (q @ key.transpose(-2, -1) + self.bias).softmax(dim=-1)
        x = x + self.proj((weights @ v).transpose(2, 3).reshape(-1, k * n, c))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Merge(nn.Module):
    """(b, k * n, c) of the finer grid -> (b, k * n, 2c) of the coarser, both in their orders."""

    def __init__(
        self, merge: PatchMerging, finer: StageGeometry, here: Tensor, there: Tensor
    ) -> None:
        super().__init__()
        self.channels, self.slots = finer.channels, len(there)
        groups = invert(here)[merge_groups(finer.grid, there).T.reshape(-1)]
        self.register_buffer("groups", groups)
        self.norm, self.reduction = merge.norm, merge.reduction

    def forward(self, x: Tensor) -> Tensor:
        x = x.index_select(1, self.groups).reshape(-1, self.slots, 4 * self.channels)
        return self.reduction(self.norm(x))  # type: ignore[no-any-return]
