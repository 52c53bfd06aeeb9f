"""Window attention as it is trained: the position bias is looked up on every call."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.model.windows import relative_position_index
from swin_deploy.preprocessing import Size


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
