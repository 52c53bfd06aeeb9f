"""csm-kr/swin_transformer_pytorch, rebuilt after its source: modules have its names.

As it is at its last commit, and with ``early=True`` as it was before April 19, 2023: without
tables of positions and without norms in the merges. Widths and depths are free, windows are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

WINDOW, STEP = 7, 3


def windows_of(x: Tensor) -> Tensor:
    """(b, h, w, c) -> (b, k, 49, c)."""
    b, h, w, c = x.shape
    x = x.view(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
    return x.reshape(b, -1, WINDOW**2, c)


def mask_of(side: int) -> Tensor:
    """(k, 49, 49): -100 between the parts of a rolled image, three along each axis."""
    part = torch.zeros(side, dtype=torch.long)
    part[side - WINDOW :] = 1
    part[side - STEP :] = 2
    parts = windows_of((3 * part[:, None] + part[None, :])[None, :, :, None])[0, :, :, 0]
    return -100.0 * (parts[:, None, :] != parts[:, :, None]).float()


class Attention(nn.Module):
    """On (b, h * w, c). Shifted if it is told the side of its map."""

    def __init__(self, dim: int, heads: int, side: int | None, *, table: bool) -> None:
        super().__init__()
        self.heads, self.table = heads, table
        self.mask = None if side is None else mask_of(side)  # no buffer there either
        if table:
            rows = (2 * WINDOW - 1) ** 2
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
            place = torch.arange(WINDOW**2)
            down = (place // WINDOW)[:, None] - (place // WINDOW)[None, :] + WINDOW - 1
            across = (place % WINDOW)[:, None] - (place % WINDOW)[None, :] + WINDOW - 1
            self.register_buffer("relative_position_index", down * (2 * WINDOW - 1) + across)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, tokens, c = x.shape
        side = math.isqrt(tokens)
        x = x.view(b, side, side, c)
        if self.mask is not None:
            x = torch.roll(x, (-STEP, -STEP), (1, 2))
        cut = windows_of(x)  # (b, k, n, c)
        qkv = self.qkv(cut).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.unbind(0)
        logits = (q * (c // self.heads) ** -0.5) @ k.transpose(-1, -2)  # (b, k, a, n, n)
        if self.table:
            logits = logits + self.relative_position_bias_table[
                self.relative_position_index
            ].permute(2, 0, 1)
        if self.mask is not None:
            logits = logits + self.mask[None, :, None]
        out = self.proj((logits.softmax(-1) @ v).transpose(2, 3).reshape(cut.shape))
        out = out.view(b, side // WINDOW, side // WINDOW, WINDOW, WINDOW, c).transpose(2, 3)
        out = out.reshape(b, side, side, c)
        if self.mask is not None:
            out = torch.roll(out, (STEP, STEP), (1, 2))
        return out.reshape(b, tokens, c)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Pair(nn.Module):
    """Two blocks, the second one shifted."""

    def __init__(self, dim: int, heads: int, side: int, *, table: bool) -> None:
        super().__init__()
        self.norm1_1, self.norm1_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.w_msa, self.mlp1 = Attention(dim, heads, None, table=table), Mlp(dim)
        self.norm2_1, self.norm2_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.sw_msa = Attention(dim, heads, side, table=table)
        self.mlp2 = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.w_msa(self.norm1_1(x))
        x = x + self.mlp1(self.norm1_2(x))
        x = x + self.sw_msa(self.norm2_1(x))
        return x + self.mlp2(self.norm2_2(x))  # type: ignore[no-any-return]


class Merging(nn.Module):
    """Unfold of a map whose channels are last. (b, h * w, c) -> (b, h * w / 4, 2c)."""

    def __init__(self, dim: int, side: int, *, early: bool) -> None:
        super().__init__()
        self.side, self.unfold = side, nn.Unfold(2, stride=2)
        if not early:
            self.norm = nn.LayerNorm(4 * dim)
        self.linear = nn.Linear(4 * dim, 2 * dim, bias=early)

    def forward(self, x: Tensor) -> Tensor:
        b, _, c = x.shape
        x = x.view(b, self.side, self.side, c)
        half = self.side // 2
        x = self.unfold(x).view(b, -1, half, half).permute(0, 2, 3, 1)
        x = x.reshape(b, half * half, 4 * c)
        if hasattr(self, "norm"):
            x = self.norm(x)
        return self.linear(x)  # type: ignore[no-any-return]


class Embedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, dim, 4, stride=4), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))  # type: ignore[no-any-return]


class CsmKr(nn.Module):
    """Images (b, 3, s, s) -> the feature map of every stage, (b, h * w, c), and the logits.

    Args:
        image: s.
        dim: Of the first stage.
        depths: Blocks per stage.
        heads: Per stage.
        classes: Of the head.
        early: Whether the code is that of before April 19, 2023.
    """

    def __init__(
        self,
        image: int,
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        classes: int,
        *,
        early: bool = False,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [Embedding(dim)]
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            side = image // 4 >> i
            pairs = (Pair(dim << i, count, side, table=not early) for _ in range(depth // 2))
            parts.append(nn.Sequential(*pairs))
            if i + 1 < len(depths):
                parts.append(Merging(dim << i, side, early=early))
        self.features = nn.Sequential(*parts)
        channels = dim << len(depths) - 1
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for part in self.features:
            x = part(x)
            if isinstance(part, nn.Sequential):
                maps.append(x)
        return maps, self.head(self.norm(x).mean(dim=1))
