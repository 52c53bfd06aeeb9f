"""Forms of V2's attention: softmax(s cos(q, k) + bias) v.

``PackedCosineAttention`` of ``swin_deploy.export_form.attention`` is the one that was chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.parts import Tried, constant
from swin_deploy.export_form.slabs import shifted
from swin_deploy.model.attention_v2 import CosineWindowAttention
from swin_deploy.model.blocks import SwinBlock
from swin_deploy.narrow import of_kind

SHORTEST = 1e-12  # what F.normalize divides by at least; zero in FP16


class Cosine(Tried):
    """Unit vectors of query and key, one after the other.

    A kernel for each of them, between the copy and the fused attention.
    """

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        self.scale = constant(of_kind(CosineWindowAttention, block.attn).scale())  # (a, 1, 1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, key, v = super().split(x)
        return unit(q) * self.scale, unit(key), v


class CosineStacked(Cosine):
    """Unit vectors of query and key in one operation, on both stacked.

    One kernel for both, but still one between the copy and the fused attention.
    """

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, k, a, _, d = self.sizes
        packed = self.qkv(x).reshape(n, k, -1, 3, a, d).permute(3, 1, 2, 4, 0, 5)
        scales = torch.stack([self.scale, torch.ones_like(self.scale)])[:, None, None]
        q, key = (unit(packed[:2]) * scales).unbind(0)
        return q, key, packed[2]


class CosineInTokenOrder(Cosine):
    """Unit vectors before the tokens are put in the order of attention, (n * k, b, a, d).

    The copy comes after them and stays a kernel of its own.
    """

    def split(self, x: Tensor) -> list[Tensor]:
        _, _, a, c, d = self.sizes
        q, key, v = self.qkv(x).split(c, dim=-1)
        by_head = (*q.shape[:-1], a, d)
        q = unit(q.reshape(by_head)) * self.scale[:, 0]
        return self.rank_five(q, unit(key.reshape(by_head)), v)


class CosineOneFactor(Cosine):
    """The factor of the query on the logits, the key a unit vector.

    The key's kernel stays.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = Tried.split(self, x)
        logits = (q @ unit(key).transpose(-2, -1)) * factor(self.scale, q)
        return self.attend(logits + self.bias, v)

    def split(self, x: Tensor) -> list[Tensor]:
        return list(Tried.split(self, x))


class CosineSlabs(Cosine):
    """One batched product as in V1's chosen form, with both factors on the logits.

    The lengths have to be taken of a query with its bias, so a kernel reads and writes it anyway.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = constant(weight.transpose(1, 2).contiguous())
        self.added = constant(bias[0])
        self.proj = shifted(self.proj, bias[2].double())

    def forward(self, x: Tensor) -> Tensor:
        n, k, a, c, d = self.sizes
        q, key, v = (x.reshape(1, -1, c) @ self.weight).unbind(0)
        q, key, v = self.rank_three(q + self.added, key, v)
        q_factor = factor(-self.scale, q.reshape(k, -1, a, n, d))
        key_factor = factor(torch.ones_like(self.scale), key.reshape(k, -1, a, n, d))
        logits = self.windows(q @ key.transpose(1, 2)) * q_factor * key_factor.transpose(-2, -1)
        return self.attend_three(self.bias - logits, v)


def factor(scale: Tensor, x: Tensor) -> Tensor:
    """What makes a logit of x, (k, b, a, n, d), one of its unit vector: (k, b, a, n, 1)."""
    return (scale / length(x)).to(x.dtype)


def length(x: Tensor) -> Tensor:
    """Of vectors, in FP32 until it can be divided by: (..., d) -> (..., 1)."""
    found: Tensor = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True)
    return found.clamp(min=SHORTEST)


def unit(x: Tensor) -> Tensor:
    """``F.normalize`` in FP32: (..., d) -> (..., d)."""
    return (x.float() / length(x)).to(x.dtype)
