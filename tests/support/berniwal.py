"""berniwal/swin-transformer-pytorch, rebuilt after its source: modules have its names.

As it is at its last commit, and with ``relative=False`` as it was before it had relative positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def edge_mask(window: int, axis: int) -> Tensor:
    """-inf between tokens of a window that the roll brought together along ``axis``, 0 else.

    (n, n); the tokens that came round are the last ``window // 2`` rows, or columns.
    """
    places = torch.arange(window * window)
    along = places // window if axis == 0 else places % window
    came_round = along >= window - window // 2
    mask = torch.zeros(window * window, window * window)
    mask[came_round[:, None] != came_round[None, :]] = -math.inf
    return mask


class Around(nn.Module):
    """x + f(norm(x)), where ``fn`` holds the norm and f, as two wrappers there do."""

    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Module()
        self.fn.norm = nn.LayerNorm(dim)
        self.fn.fn = inner

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.fn.fn(self.fn.norm(x))
        return added + x


class Attention(nn.Module):
    """On (b, h, w, c), one position table for all heads."""

    def __init__(self, dim: int, heads: int, window: int, *, shifted: bool, relative: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted, self.relative = heads, window, shifted, relative
        if shifted:
            for axis, name in enumerate(("upper_lower_mask", "left_right_mask")):
                mask = nn.Parameter(edge_mask(window, axis), requires_grad=False)
                self.register_parameter(name, mask)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        side = 2 * window - 1 if relative else window**2
        self.pos_embedding = nn.Parameter(torch.zeros(side, side))
        self.to_out = nn.Linear(dim, dim)

    def positions(self) -> Tensor:
        """(n, n), query by key."""
        if not self.relative:
            return self.pos_embedding
        w = self.window
        place = torch.tensor([[row, column] for row in range(w) for column in range(w)])
        offset = place[None, :] - place[:, None] + w - 1  # of the key minus the query
        return self.pos_embedding[offset[..., 0], offset[..., 1]]

    def forward(self, x: Tensor) -> Tensor:
        step = self.window // 2
        if self.shifted:
            x = torch.roll(x, (-step, -step), (1, 2))
        b, h, w, c = x.shape
        m, a = self.window, self.heads
        down, across = h // m, w // m
        cut = x.view(b, down, m, across, m, c).permute(0, 1, 3, 2, 4, 5)
        qkv = self.to_qkv(cut.reshape(b, down * across, m * m, c))
        q, k, v = (t.unflatten(-1, (a, c // a)).transpose(2, 3) for t in qkv.chunk(3, dim=-1))
        logits = (q @ k.transpose(-1, -2)) * (c // a) ** -0.5 + self.positions()  # (b, k, a, n, n)
        if self.shifted:
            logits = logits.unflatten(1, (down, across)).clone()
            logits[:, -1] += self.upper_lower_mask
            logits[:, :, -1] += self.left_right_mask
            logits = logits.flatten(1, 2)
        out = (logits.softmax(dim=-1) @ v).transpose(2, 3).reshape(b, down, across, m, m, c)
        out = self.to_out(out.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c))
        return torch.roll(out, (step, step), (1, 2)) if self.shifted else out


class Partition(nn.Module):
    """(b, c, h, w) -> (b, h/f, w/f, c'), the groups as Unfold has them."""

    def __init__(self, channels: int, dim: int, factor: int) -> None:
        super().__init__()
        self.factor, self.unfold = factor, nn.Unfold(factor, stride=factor)
        self.linear = nn.Linear(channels * factor**2, dim)

    def forward(self, x: Tensor) -> Tensor:
        h, w = (size // self.factor for size in x.shape[2:])
        groups = self.unfold(x).unflatten(2, (h, w)).permute(0, 2, 3, 1)
        return self.linear(groups)  # type: ignore[no-any-return]


class Stage(nn.Module):
    """(b, c, h, w) -> (b, c', h/f, w/f)."""

    def __init__(
        self,
        partition: Partition,
        dim: int,
        depth: int,
        heads: int,
        window: int,
        *,
        relative: bool,
    ) -> None:
        super().__init__()
        self.patch_partition = partition
        self.layers = nn.ModuleList()
        for _ in range(depth // 2):
            pair = nn.ModuleList()
            for shifted in (False, True):
                block = nn.Module()
                attention = Attention(dim, heads, window, shifted=shifted, relative=relative)
                mlp = nn.Module()
                mlp.net = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
                mlp.forward = mlp.net.forward
                block.attention_block, block.mlp_block = Around(dim, attention), Around(dim, mlp)
                pair.append(block)
            self.layers.append(pair)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_partition(x)
        for pair in self.layers:
            for block in pair:  # type: ignore[attr-defined]
                x = block.mlp_block(block.attention_block(x))
        return x.permute(0, 3, 1, 2)


class Berniwal(nn.Module):
    """Images (b, 3, H, W) -> the feature map of every stage, (b, h, w, c), and the logits.

    Args:
        dim: Of the first stage.
        depths: Blocks per stage.
        heads: Per stage.
        window: Side of it.
        classes: Of the head.
        relative: Their switch of this name.
    """

    def __init__(
        self,
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        window: int,
        classes: int,
        *,
        relative: bool = True,
    ) -> None:
        super().__init__()
        channels = 3
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            partition = Partition(channels, dim << i, 2 if i else 4)
            channels = dim << i
            stage = Stage(partition, channels, depth, count, window, relative=relative)
            self.add_module(f"stage{i + 1}", stage)
        self.mlp_head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for name, stage in self.named_children():
            if name.startswith("stage"):
                x = stage(x)
                maps.append(x.permute(0, 2, 3, 1))
        return maps, self.mlp_head(x.mean(dim=[2, 3]))
