"""What the forms of attention that were tried have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swin_deploy.export_form.attention import FrozenAttention
from swin_deploy.export_form.linear import query_scale
from swin_deploy.model.attention_v2 import CosineWindowAttention
from swin_deploy.model.blocks import SwinBlock


class Sizes(NamedTuple):
    """Tokens per window, windows, heads, channels, channels per head."""

    n: int
    k: int
    a: int
    c: int
    d: int


class Tried(FrozenAttention):
    """An attention with its own forward and its own copies of the trained tensors.

    A form overrides ``prepare``, which gets the projection row by row with the query scale in it,
    and either ``forward`` or ``split``.
    """

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        stage, attn = block.stage, block.attn
        c, a = stage.channels, stage.heads
        self.sizes = Sizes(stage.window_tokens, stage.windows, a, c, c // a)
        weight = attn.qkv.weight.view(3, c, c).clone()  # (q k v, c out, c in)
        cosine = isinstance(attn, CosineWindowAttention)
        bias = attn.qkv_bias() if cosine else attn.qkv.bias
        bias = torch.zeros(3, c) if bias is None else bias.view(3, c).clone()
        scale = 1.0 if cosine else query_scale(c, a)
        weight[0] *= scale
        bias[0] *= scale
        self.prepare(weight, bias)

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        """Keep what ``split`` needs: weight (3, c out, c in), bias (3, c)."""
        self.qkv = layer(weight.flatten(0, 1), bias.flatten())

    def split(self, x: Tensor) -> Any:
        """(n * k, b, c) -> query, key and value, (k, b, a, n, d) each."""
        return self.rank_five(*self.qkv(x).split(self.sizes.c, dim=-1))

    def rank_five(self, *parts: Tensor) -> list[Tensor]:
        """(n * k, b, c) -> (k, b, a, n, d), each of them."""
        n, k, a, _, d = self.sizes
        return [part.reshape(n, k, -1, a, d).permute(1, 2, 3, 0, 4) for part in parts]

    def rank_three(self, *parts: Tensor) -> list[Tensor]:
        """(n * k, b, c) -> (k * b * a, n, d), each of them."""
        n, d = self.sizes.n, self.sizes.d
        return [part.reshape(n, -1, d).transpose(0, 1) for part in parts]

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.split(x)
        return self.attend(q @ key.transpose(-2, -1) + self.bias, v)

    def attend(self, logits: Tensor, v: Tensor) -> Tensor:
        """Logits (k, b, a, n, n), values (k, b, a, n, d) -> (n * k, b, c)."""
        return self.merge((logits.softmax(dim=-1) @ v).permute(3, 0, 1, 2, 4))

    def attend_three(self, logits: Tensor, v: Tensor) -> Tensor:
        """The same at three axes: logits with the bias (k, b, a, n, n), v (k * b * a, n, d)."""
        n = self.sizes.n
        weights = logits.reshape(-1, n, n).softmax(dim=-1)
        return self.merge((weights @ v).transpose(0, 1))

    def windows(self, logits: Tensor) -> Tensor:
        """(k * b * a, n, n) -> (k, b, a, n, n), for the bias."""
        n, k, a, _, _ = self.sizes
        return logits.reshape(k, -1, a, n, n)

    def merge(self, out: Tensor) -> Tensor:
        """(n, k, b, a, d), in any number of axes -> projected (n * k, b, c)."""
        n, k, _, c, _ = self.sizes
        return self.proj(out.reshape(n * k, -1, c))  # type: ignore[no-any-return]


def layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer around copies of its tensors: weight (out, in), bias (out,)."""
    found = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    found.weight = constant(weight)
    if bias is not None:
        found.bias = constant(bias)
    return found


def constant(x: Tensor) -> nn.Parameter:
    """A tensor that becomes an initializer of the graph."""
    return nn.Parameter(x.detach().clone(), requires_grad=False)
