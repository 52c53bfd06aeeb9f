"""The parts of a frozen network, and the stream (n * k, b, c) that goes between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.network.export_form.attention import FrozenAttention, hold, linear
from swin_deploy.network.export_form.slabs import PADDED, invert, merge_groups
from swin_deploy.network.model.swin import PatchEmbed, PatchMerging, SwinBlock
from swin_deploy.network.swin import StageGeometry


def _as_it_is(x: Tensor) -> Tensor:
    return x


class Stream(NamedTuple):
    """Tokens in some order, and what is still to be added to them.

    V2 normalises what leaves a branch before it adds it. If the tokens change their order after
    that, compilers make two kernels of it, with FP32 numbers between them. So a block hands both
    on, and whoever reads them gathers first, then normalises and adds, which is one kernel.

    Attributes:
        tokens: (slots, b, c).
        branch: Likewise, not normalised; None where nothing is open.
        norm: Of the branch.
    """

    tokens: Tensor
    branch: Tensor | None = None
    norm: nn.Module | None = None

    def gather(
        self, rows: Tensor | None, arrange: Callable[[Tensor], Tensor] = _as_it_is
    ) -> Tensor:
        """The sum in another order: (slots, b, c) -> (rows, b, c), or as ``arrange`` leaves it.

        Args:
            rows: Which slots to read, in which order; None for all as they are.
            arrange: Moves axes, but leaves c the last.
        """
        parts = [self.tokens] if self.branch is None else [self.tokens, self.branch]
        if rows is not None:
            parts = [part.index_select(0, rows) for part in parts]
        tokens, *branch = (arrange(part) for part in parts)
        if self.norm is None:
            return tokens
        total: Tensor = tokens + self.norm(*branch)
        return total


class FrozenPatchEmbed(nn.Module):
    """The patch embedding as one linear layer, its patches cut out in window order.

    A convolution whose stride is its kernel is a matrix product over flattened patches. As such it
    needs no kernel that pads three channels to four, and none that moves the tokens afterwards.
    """

    def __init__(self, embed: PatchEmbed, stage: StageGeometry) -> None:
        super().__init__()
        self.patch, self.stage = embed.patch, stage
        self.proj = linear(embed.proj.weight.flatten(1), embed.proj.bias)
        self.norm = embed.norm

    def forward(self, image: Tensor) -> Stream:
        """(b, channels, H, W) -> the stream (n * k, b, c)."""
        (p, q), side = self.stage.window, self.patch
        channels = image.shape[1]
        image = self._whole_windows(image)
        h, w = self.stage.padded
        x = image.reshape(-1, channels, h // p, p, side, w // q, q, side)
        x = x.permute(3, 6, 2, 5, 0, 1, 4, 7)  # (p, q, h/p, w/q, b, channels, y, x)
        x = x.reshape(h * w, -1, channels * side**2)  # (n * k, b, channels * y * x)
        return Stream(self.norm(self.proj(x)))

    def _whole_windows(self, image: Tensor) -> Tensor:
        """Cut off the pixels that no patch takes, and pad with zeros to whole windows."""
        (h, w), side = self.stage.grid, self.patch
        image = image[:, :, : h * side, : w * side]
        rows, columns = (size * side for size in self.stage.padded)
        missing = rows - image.shape[2], columns - image.shape[3]
        return F.pad(image, (0, missing[1], 0, missing[0])) if any(missing) else image


class FrozenMerge(nn.Module):
    """Patch merging that gathers from one stage's order straight into the next one's.

    Args:
        merge: The trained one, of groups of four tokens.
        finer: The grid that it merges.
        here: The order of the stream that arrives.
        there: The order in which the coarser grid is wanted.
    """

    groups: Tensor
    present: Tensor | None

    def __init__(
        self, merge: PatchMerging, finer: StageGeometry, here: Tensor, there: Tensor
    ) -> None:
        super().__init__()
        self.version, self.channels, self.slots = merge.version, finer.channels, len(there)
        tokens = merge_groups(finer.grid, there).T.reshape(-1)  # (slots * 4,)
        groups = invert(here)[tokens.clamp(min=0)]
        self.register_buffer("groups", groups, persistent=False)
        present = tokens != PADDED
        keep = None if present.all() else present.float().view(-1, 1, 4, 1)
        self.register_buffer("present", keep, persistent=False)
        order = _group_channels(merge.order, finer.channels)
        self.norm = _norm_in_order(merge.norm, order) if merge.version == 1 else merge.norm
        weight, bias = merge.reduction.weight, merge.reduction.bias
        self.reduction = linear(weight if order is None else weight[:, order], bias)

    def forward(self, stream: Stream) -> Stream:
        """The stream of the finer grid -> (slots, b, 2c), in the order of the coarser."""
        x = stream.gather(self.groups, self._by_group)  # (slots, b, 4, c)
        if self.present is not None:
            x = x * self.present  # beyond an odd side: zeros, as the checkpoint's library pads
        x = x.reshape(self.slots, -1, 4 * self.channels)
        if self.version == 1:
            return Stream(self.reduction(self.norm(x)))
        return Stream(self.norm(self.reduction(x)))

    def _by_group(self, x: Tensor) -> Tensor:
        """(slots * 4, b, c) -> (slots, b, 4, c)."""
        return x.reshape(self.slots, 4, -1, self.channels).transpose(1, 2)


class FrozenMix(nn.Module):
    """Merging in the order ``channels_last``: every merged token has values of many tokens.

    The rows of the image and the pairs of columns and channels go into the channels, what is left
    of columns and channels becomes the grid. One gather brings the tokens into an order in which
    that is a reshape, a transpose and a reshape; a second one, where the coarser grid has several
    windows, brings whole merged tokens into their order.

    Args:
        merge: The trained one, of V1.
        finer: The grid that it merges; square, its sides even.
        here: The order of the stream that arrives.
        there: The order in which the coarser grid is wanted.
    """

    rows: Tensor
    steps: Tensor | None

    def __init__(
        self, merge: PatchMerging, finer: StageGeometry, here: Tensor, there: Tensor
    ) -> None:
        super().__init__()
        self.grid, self.channels = finer.grid, finer.channels
        h, w = finer.grid
        image = torch.arange(h * w).view(h, w // 2, 2).transpose(1, 2)  # (h, column of a pair, w/2)
        self.register_buffer("rows", invert(here)[image.reshape(-1)], persistent=False)
        moved = not torch.equal(there, torch.arange(len(there)))
        self.register_buffer("steps", there.clamp(min=0) if moved else None, persistent=False)
        self.norm, self.reduction = merge.norm, merge.reduction

    def forward(self, stream: Stream) -> Stream:
        """The stream of the finer grid -> (slots, b, 2c), in the order of the coarser."""
        (h, w), c = self.grid, self.channels
        x = stream.gather(self.rows).reshape(2 * h, w // 2, -1, c // 2, 2)
        x = x.permute(0, 4, 1, 3, 2)  # (row and column, channel of a pair, w/2, c/2, b)
        x = x.reshape(4 * c, h * w // 4, -1).permute(1, 2, 0)  # (slots, b, 4c)
        if self.steps is not None:
            x = x.index_select(0, self.steps)
        return Stream(self.reduction(self.norm(x)))


def frozen_merge(
    merge: PatchMerging, finer: StageGeometry, here: Tensor, there: Tensor
) -> FrozenMerge | FrozenMix:
    """The export form of a merge; arguments as of the two."""
    kind = FrozenMix if merge.order == "channels_last" else FrozenMerge
    return kind(merge, finer, here, there)


def _group_channels(order: str, c: int) -> Tensor | None:
    """Where each channel of a merged group stands in the checkpoint; None if just there.

    The stream concatenates by column, then row, then channel.
    """
    if order == "columns":
        return None
    here = torch.arange(4 * c).view(2, 2, c)  # as the checkpoint has them, slowest first
    if order == "rows":
        return here.permute(1, 0, 2).reshape(-1)  # (row, column, c) -> (column, row, c)
    return torch.arange(4 * c).view(c, 2, 2).permute(2, 1, 0).reshape(-1)


def _norm_in_order(norm: nn.Module, order: Tensor | None) -> nn.Module:
    if order is None or not isinstance(norm, nn.LayerNorm):  # there is none, or nothing to move
        return norm
    copy = nn.LayerNorm(norm.normalized_shape, norm.eps)
    hold(copy, "weight", norm.weight[order])
    hold(copy, "bias", norm.bias[order])
    return copy


class FrozenBlock(nn.Module):
    """A Swin block without roll, mask arithmetic or lookup.

    Args:
        block: The trained block.
        attn: Its attention in export form.
        order: Of its windows.
        steps: Where each of its slots finds its token in the stream that arrives; None if the
            stream is already in this block's order.
    """

    steps: Tensor | None
    present: Tensor | None

    def __init__(
        self, block: SwinBlock, attn: FrozenAttention, order: Tensor, steps: Tensor | None
    ) -> None:
        super().__init__()
        self.version, self.attn = block.version, attn
        self.register_buffer("steps", steps, persistent=False)
        present = order != PADDED
        keep = None if present.all() else present.float().view(-1, 1, 1)
        self.register_buffer("present", keep, persistent=False)
        self.norm1, self.norm2, self.mlp = attn.norm1_of(block), block.norm2, block.mlp

    def forward(self, stream: Stream) -> Stream:
        x = stream.gather(self.steps)  # (n * k, b, c)
        if self.version == 1:
            x = x + self.attn(self._padded_with_zeros(self.norm1(x)))
            return Stream(x + self.mlp(self.norm2(x)))
        x = x + self.norm1(self.attn(self._padded_with_zeros(x)))
        return Stream(x, self.mlp(x), self.norm2)

    def _padded_with_zeros(self, x: Tensor) -> Tensor:
        """Attention sees zeros where a window holds no token: (n * k, b, c) -> the same."""
        return x if self.present is None else x * self.present
