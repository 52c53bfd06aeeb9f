"""Window attention of Swin V2 as it is trained: cosines, and a position bias from an MLP."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.model.windows import relative_position_index
from swin_deploy.preprocessing import Size

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
