"""Frozen window attention with one packed projection, V1 and V2, and its linear layers.

Masks, position biases and scales are constants. A compiler copies query, key and value out of the
packed result in one kernel, whatever the batch; ``slabs`` avoids the copy for static batches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swin_deploy.core.errors import of_kind
from swin_deploy.network.model.attention import CosineWindowAttention, WindowAttention
from swin_deploy.network.model.swin import SwinBlock


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer around given tensors: weight (out, in), bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    hold(layer, "weight", weight)
    if bias is not None:
        hold(layer, "bias", bias)
    return layer


def hold(module: nn.Module, name: str, value: Tensor) -> None:
    """Give a module a computed tensor, in place of the one of that name if it has one.

    A parameter, or a buffer where autograd is to follow how the value was computed: parameters
    are leaves.
    """
    if hasattr(module, name):
        delattr(module, name)
    if torch.is_grad_enabled():
        module.register_buffer(name, value, persistent=False)
    else:
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def query_scale(channels: int, heads: int) -> float:
    """1 / sqrt(d)."""
    return float((channels // heads) ** -0.5)


def scaled_query(qkv: nn.Linear, heads: int) -> nn.Linear:
    """A copy of the projection that multiplies the query rows by 1 / sqrt(d)."""
    c = qkv.in_features
    scale = torch.ones(3 * c)
    scale[:c] = query_scale(c, heads)
    return linear(qkv.weight * scale[:, None], None if qkv.bias is None else qkv.bias * scale)


class FrozenAttention(nn.Module):
    """softmax(q k^T + bias) v in every window: (n * k, b, c) -> the same.

    What INT8 rounds goes through a module of its own that does nothing, so that training can round
    it too (``qat``); exported graphs have no trace of them.

    Args:
        block: The trained block that it belongs to.
    """

    bias: Tensor

    def __init__(self, block: SwinBlock) -> None:
        super().__init__()
        self.stage = block.stage
        bias = block.attn.position_bias()[None, None]  # (1, 1, a, n, n)
        if block.mask is not None:
            bias = bias + block.mask[:, None, None]  # (k, 1, a, n, n)
        self.register_buffer("bias", bias.contiguous(), persistent=False)
        self.proj = block.attn.proj
        self.at_weights = nn.Identity()

    def norm1_of(self, block: SwinBlock) -> nn.LayerNorm:
        """The block's first norm, as this form wants it."""
        return block.norm1


class PackedAttention(FrozenAttention):
    """V1: the query scale is in the projection."""

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        self.qkv = scaled_query(of_kind(WindowAttention, block.attn).qkv, self.stage.heads)
        self.add_places()

    def add_places(self) -> None:
        """Where INT8 rounds query, key and value."""
        self.at_query, self.at_key, self.at_value = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.split(x)
        weights = (self.logits(q, key) + self.bias).softmax(dim=-1)  # (k, b, a, n, n)
        out = self.at_weights(weights) @ self.at_value(v)
        out = out.permute(3, 0, 1, 2, 4)  # (n, k, b, a, d)
        stage = self.stage
        slots = stage.window_tokens * stage.windows
        return self.proj(out.reshape(slots, -1, stage.channels))  # type: ignore[no-any-return]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n * k, b, c) -> query, key and value, (k, b, a, n, d) each."""
        n, k, a = self.stage.window_tokens, self.stage.windows, self.stage.heads
        qkv = self.qkv(x).reshape(n, k, -1, 3, a, self.stage.channels // a)
        q, key, v = qkv.permute(3, 1, 2, 4, 0, 5).unbind(0)
        return q, key, v

    def logits(self, q: Tensor, key: Tensor) -> Tensor:
        """(k, b, a, n, d) twice -> (k, b, a, n, n)."""
        product: Tensor = self.at_query(q) @ self.at_key(key).transpose(-2, -1)
        return product


class PackedCosineAttention(PackedAttention):
    """V2: the cosine of query and key times the learned scale.

    Compilers make a kernel of each unit vector. The product of the vectors as they are, times a
    factor per query and a factor per key, is the same number: those factors come out of the kernel
    that copies query, key and value anyway, and the fused attention takes them in. The scale, its
    clamp and its exponential are in the factors, half of it in each, so that both stay small.
    """

    root: Tensor

    def __init__(self, block: SwinBlock) -> None:
        FrozenAttention.__init__(self, block)
        attn = of_kind(CosineWindowAttention, block.attn)
        self.qkv = even_heads(attn.qkv.weight, attn.qkv_bias(), self.stage.heads)
        root = attn.scale().sqrt()  # (a, 1, 1)
        self.register_buffer("root", root, persistent=False)
        self.add_places()

    def logits(self, q: Tensor, key: Tensor) -> Tensor:
        q_factor, key_factor = self.root / length(q), self.root / length(key)  # (k, b, a, n, 1)
        return super().logits(q, key) * q_factor * key_factor.transpose(-2, -1)


def length(x: Tensor) -> Tensor:
    """Of vectors, and never 0, as ``F.normalize`` divides by: (..., d) -> (..., 1)."""
    found: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return found.clamp(min=1e-12)


def even_heads(weight: Tensor, bias: Tensor | None, heads: int) -> nn.Linear:
    """A projection whose query and key rows have about length 1, head by head.

    A cosine is the same for vectors of any length, so nothing of the network limits theirs, but
    their product has to stay below 65504 in FP16. Each head's rows are multiplied by the power of
    two that brings their mean square length nearest to 1. Powers of two round nothing.

    Args:
        weight: (3c, c), the rows of query, key and value.
        bias: (3c,), or None.
        heads: a.
    """
    c = weight.shape[1]
    square = weight[: 2 * c].square().sum(dim=1).view(2 * heads, -1).mean(dim=1)  # (2a,)
    exponent = -torch.where(square > 0, square, 1.0).log2().div(2).round()
    factor = torch.ones(3 * c)
    factor[: 2 * c] = exponent.exp2().repeat_interleave(c // heads)
    return linear(weight * factor[:, None], None if bias is None else bias * factor)
