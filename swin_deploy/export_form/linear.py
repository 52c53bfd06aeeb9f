"""Linear layers around tensors that are computed, not trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
