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
        q, key, v = qkv.permute(3, 1, 2, 4, 0, 5).unbind(0)  # each (k, b, a, n, d)
        q, key = self.similar(q, key)
        weights = (q @ key.transpose(-2, -1) + self.bias).softmax(dim=-1)  # (k, b, a, n, n)
        out = (weights @ v).permute(3, 0, 1, 2, 4).reshape(n, -1, c)
        return self.proj(out)  # type: ignore[no-any-return]

    def similar(self, q: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What is multiplied with each other, (k, b, a, n, d) both: here as they are."""
        return q, key


class FrozenCosineAttention(FrozenAttention):
    """The same of unit vectors: the learned scale, its clamp and exponential are one constant."""

    scale: Tensor

    def __init__(
        self, attn: CosineWindowAttention, mask: Tensor | None, stage: StageGeometry
    ) -> None:
        super().__init__(attn, mask, stage)
        self.register_buffer("scale", attn.scale(), persistent=False)

    def similar(self, q: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors, the query's times the scale: (k, b, a, n, d) both."""
        return _unit(q) * self.scale, _unit(key)


def _unit(x: Tensor) -> Tensor:
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
