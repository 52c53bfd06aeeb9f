"""Window attention of V1 and V2 as it is trained, and the windows that it is cut into."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.network.interface import Size


def split_windows(x: Tensor, window: Size) -> Tensor:
    """Cut the grid into windows: (b, h, w, c) -> (b, k, n, c)."""
    b, h, w, c = x.shape
    p, q = window
    x = x.reshape(b, h // p, p, w // q, q, c).transpose(2, 3)  # (b, h/p, w/q, p, q, c)
    return x.reshape(b, (h // p) * (w // q), p * q, c)


def join_windows(x: Tensor, window: Size, grid: Size) -> Tensor:
    """Undo ``split_windows``: (b, k, n, c) -> (b, h, w, c)."""
    b, c = x.shape[0], x.shape[-1]
    (p, q), (h, w) = window, grid
    x = x.reshape(b, h // p, w // q, p, q, c).transpose(2, 3)  # (b, h/p, p, w/q, q, c)
    return x.reshape(b, h, w, c)


def relative_position_index(window: Size) -> Tensor:
    """Row of the position bias table for each pair of tokens: (n, n), int64.

    The table is ordered by the row offset, then the column offset, of the query minus the key.
    """
    p, q = window
    rows, columns = torch.meshgrid(torch.arange(p), torch.arange(q), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()  # (n,) each
    row_offset = rows[:, None] - rows[None, :] + p - 1
    column_offset = columns[:, None] - columns[None, :] + q - 1
    return row_offset * (2 * q - 1) + column_offset


def shift_mask(grid: Size, window: Size, shift: Size, masked: float = -100.0) -> Tensor:
    """What keeps tokens apart that only the cyclic shift brought together: (k, n, n), float32.

    0 between tokens of one region, ``masked`` between regions. Along a shifted axis the grid has
    three regions: up to the last window, the part of it that stayed, and the part that wrapped.
    """
    regions = [
        torch.zeros(size, dtype=torch.long)
        if not step
        else torch.arange(size).ge(size - side).long() + torch.arange(size).ge(size - step).long()
        for size, side, step in zip(grid, window, shift, strict=True)
    ]
    region = 3 * regions[0][:, None] + regions[1][None, :]  # (h, w)
    windows = split_windows(region[None, :, :, None], window)[0, :, :, 0]  # (k, n)
    apart = windows[:, :, None] != windows[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, masked)


class WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + B + mask) v inside each window (Liu et al. 2021, equation 4).

    Args:
        channels: c.
        heads: a.
        window: (p, q), in tokens.
        qkv_bias: Whether the projection to q, k and v has a bias.
        position_bias: Whether there is a table of B; without one B is zero.
    """

    relative_position_index: Tensor
    relative_position_bias_table: nn.Parameter | None

    def __init__(
        self, channels: int, heads: int, window: Size, qkv_bias: bool, position_bias: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        table = nn.Parameter(self.qkv.weight.new_zeros(rows, heads)) if position_bias else None
        self.register_parameter("relative_position_bias_table", table)
        self.register_buffer(
            "relative_position_index", relative_position_index(window), persistent=False
        )

    def position_bias(self) -> Tensor:
        """The bias between every two tokens of a window: (a, n, n)."""
        if self.relative_position_bias_table is None:
            n = self.window[0] * self.window[1]
            return self.qkv.weight.new_zeros(self.heads, n, n)
        bias = self.relative_position_bias_table[self.relative_position_index]  # (n, n, a)
        return bias.permute(2, 0, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b, k, n, c), with a mask (k, n, n) or None -> (b, k, n, c)."""
        b, k, n, c = x.shape
        # Four axes, or PyTorch leaves its fused kernels, and eager Swin-T takes 1.4 times as long.
        qkv = self.qkv(x).reshape(b * k, n, 3, self.heads, c // self.heads)
        q, key, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (b * k, a, n, d)
        bias = self.position_bias()[None]  # (1, a, n, n)
        if mask is not None:
            bias = bias + mask[:, None]  # (k, a, n, n)
            bias = bias.expand(b, *bias.shape).flatten(0, 1)  # (b * k, a, n, n)
        out = F.scaled_dot_product_attention(q, key, v, attn_mask=bias)  # scales by 1/sqrt(d)
        return self.proj(out.transpose(1, 2).reshape(b, k, n, c))  # type: ignore[no-any-return]


MAX_LOGIT_SCALE = math.log(100.0)  # the scale is learned as its logarithm, and clamped here
_HIDDEN = 512  # of the position MLP, in every release


class CosineWindowAttention(nn.Module):
    """softmax(s cos(q, k) + B + mask) v inside each window (Liu et al. 2022, equation 2).

    The key has no bias. B = 16 sigmoid(MLP(offset)), the offsets on a logarithmic scale.

    Args:
        channels: c.
        heads: a.
        window: (p, q), in tokens.
        qkv_bias: Whether query and value have a bias.
        pretrained_window: Side of the window that the MLP was trained with; 0 for ``window``.
    """

    relative_position_index: Tensor
    offsets: Tensor
    q_bias: nn.Parameter | None
    v_bias: nn.Parameter | None

    def __init__(
        self, channels: int, heads: int, window: Size, qkv_bias: bool, pretrained_window: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        for name in ("q_bias", "v_bias"):
            bias = nn.Parameter(self.qkv.weight.new_zeros(channels)) if qkv_bias else None
            self.register_parameter(name, bias)
        self.proj = nn.Linear(channels, channels)
        self.logit_scale = nn.Parameter(self.qkv.weight.new_zeros(heads, 1, 1))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, heads, bias=False)
        )
        self.register_buffer(
            "relative_position_index", relative_position_index(window), persistent=False
        )
        offsets = log_offsets(window, pretrained_window)
        self.register_buffer("offsets", offsets, persistent=False)

    def position_bias(self) -> Tensor:
        """The bias between every two tokens of a window: (a, n, n)."""
        table = self.cpb_mlp(self.offsets).flatten(0, 1)  # ((2p-1) * (2q-1), a)
        bias = table[self.relative_position_index].permute(2, 0, 1)  # (a, n, n)
        return 16 * torch.sigmoid(bias)

    def scale(self) -> Tensor:
        """What the cosines are multiplied by: (a, 1, 1)."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    def qkv_bias(self) -> Tensor | None:
        """The bias of the packed projection, zero for the key: (3c,)."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b, k, n, c), with a mask (k, n, n) or None -> (b, k, n, c)."""
        b, k, n, c = x.shape
        qkv = F.linear(x, self.qkv.weight, self.qkv_bias())
        qkv = qkv.reshape(b, k, n, 3, self.heads, c // self.heads)
        q, key, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (b, k, a, n, d)
        cosine = F.normalize(q, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        logits = cosine * self.scale() + self.position_bias()  # (b, k, a, n, n)
        if mask is not None:
            logits = logits + mask[:, None]
        out = logits.softmax(dim=-1) @ v
        return self.proj(out.transpose(2, 3).reshape(b, k, n, c))  # type: ignore[no-any-return]


def log_offsets(window: Size, pretrained_window: int) -> Tensor:
    """Offsets of query and key, -1 to 1 at the trained window, on a log scale: (2p-1, 2q-1, 2).

    sign(x) log2(1 + |8 x|) / log2(8) of the offset over the largest one in the trained window.
    """
    axes = []
    for side in window:
        reach = max((pretrained_window or side) - 1, 1)
        x = torch.arange(1 - side, side) * 8 / reach
        axes.append(x.sign() * torch.log2(x.abs() + 1) / math.log2(8))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([rows, columns], dim=-1)
