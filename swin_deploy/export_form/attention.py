"""Frozen window attention, V1 and V2: masks, position biases and scales are constants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swin_deploy.geometry import StageGeometry
from swin_deploy.model.attention import WindowAttention
from swin_deploy.model.attention_v2 import CosineWindowAttention


class FrozenAttention(nn.Module):
    """softmax(q k^T + bias) v in every window, the query scale in the projection.

    Args:
        attn: The trained attention.
        mask: (k, n, n) of the shifted windows, or None.
        stage: Its grid.
    """

    bias: Tensor

    def __init__(
        self,
        attn: WindowAttention | CosineWindowAttention,
        mask: Tensor | None,
        stage: StageGeometry,
    ) -> None:
        super().__init__()
        self.stage = stage
        bias = attn.position_bias()[None, None]  # (1, 1, a, n, n)
        if mask is not None:
            bias = bias + mask[:, None, None]  # (k, 1, a, n, n)
        self.register_buffer("bias", bias.contiguous(), persistent=False)
        if isinstance(attn, WindowAttention):
            self.qkv = scaled_query(attn.qkv, stage)
        else:
            self.qkv = linear(attn.qkv.weight, attn.qkv_bias())
        self.proj = attn.proj

    def forward(self, x: Tensor) -> Tensor:
        """(n, k * b, c) -> (n, k * b, c)."""
        stage = self.stage
        n, k, a, c = stage.window_tokens, stage.windows, stage.heads, stage.channels
        qkv = self.qkv(x).reshape(n, k, -1, 3, a, c // a)
        q, key, v = self.split(qkv.permute(3, 1, 2, 4, 0, 5))  # each (k, b, a, n, d)
        weights = (q @ key.transpose(-2, -1) + self.bias).softmax(dim=-1)  # (k, b, a, n, n)
        out = (weights @ v).permute(3, 0, 1, 2, 4).reshape(n, -1, c)
        return self.proj(out)  # type: ignore[no-any-return]

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(3, k, b, a, n, d) -> query, key and value, (k, b, a, n, d) each."""
        q, key, v = qkv.unbind(0)
        return q, key, v


class FrozenCosineAttention(FrozenAttention):
    """The same of unit vectors: the learned scale, its clamp and exponential are one constant.

    Query and key become unit vectors together, which is one kernel less than one after the other.
    """

    scales: Tensor

    def __init__(
        self, attn: CosineWindowAttention, mask: Tensor | None, stage: StageGeometry
    ) -> None:
        super().__init__(attn, mask, stage)
        scale = attn.scale()  # (a, 1, 1)
        scales = torch.stack([scale, torch.ones_like(scale)])[:, None, None]
        self.register_buffer("scales", scales, persistent=False)  # (2, 1, 1, a, 1, 1)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(3, k, b, a, n, d) -> unit query times the scale, unit key, value."""
        q, key = (unit(qkv[:2]) * self.scales).unbind(0)
        return q, key, qkv[2]


def unit(x: Tensor) -> Tensor:
    """``F.normalize``, without the Expand that its export has: (..., d) -> (..., d)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp(min=1e-12)


def freeze_attention(
    attn: WindowAttention | CosineWindowAttention, mask: Tensor | None, stage: StageGeometry
) -> FrozenAttention:
    """The frozen form of either attention."""
    if isinstance(attn, CosineWindowAttention):
        return FrozenCosineAttention(attn, mask, stage)
    return FrozenAttention(attn, mask, stage)


def scaled_query(qkv: nn.Linear, stage: StageGeometry) -> nn.Linear:
    """A copy of the projection that multiplies the query rows by 1 / sqrt(d)."""
    c = stage.channels
    scale = torch.ones(3 * c)
    scale[:c] = (c // stage.heads) ** -0.5
    return linear(qkv.weight * scale[:, None], None if qkv.bias is None else qkv.bias * scale)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer around given tensors: weight (out, in), bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
