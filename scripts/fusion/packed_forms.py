"""Forms of V1's attention with a packed projection.

Each says what it is and what becomes of it; docs/fusion.md has the figures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion.parts import Tried, constant, layer

MASKED = -100.0  # as the shifted windows are masked


class HeadsFirst(Tried):
    """Rows of the packed projection in the order (head, 3, d).

    The same kernels: at five axes one kernel copies the three parts in either order.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        _, _, a, c, d = self.sizes
        weight = weight.view(3, a, d, c).transpose(0, 1)
        bias = bias.view(3, a, d).transpose(0, 1)
        self.qkv = layer(weight.reshape(3 * c, c), bias.flatten())

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        n, k, a, _, d = self.sizes
        parts = self.qkv(x).reshape(n, k, -1, a, 3, d)
        return parts.permute(4, 1, 2, 3, 0, 5).unbind(0)


class PackedSubtracted(Tried):
    """The packed projection, and bias - (-q) k^T.

    A slice of a packed result is copied whatever reads it, and at three axes by three kernels.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        negated = torch.tensor([-1.0, 1, 1])
        super().prepare(weight * negated[:, None, None], bias * negated[:, None])

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.rank_three(*self.qkv(x).split(self.sizes.c, dim=-1))
        logits = self.windows(q @ key.transpose(1, 2))
        return self.attend_three(self.bias - logits, v)


class Padded(Tried):
    """Windows filled up with zero tokens whose keys are masked, to a multiple of ``multiple``.

    More kernels around the same attention: filling and cutting off do not join the copy.
    """

    multiple = 8

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        self.missing = missing = -self.sizes.n % self.multiple
        filled = F.pad(self.bias, (0, missing), value=MASKED)
        self.filled = constant(F.pad(filled, (0, 0, 0, missing)))

    def forward(self, x: Tensor) -> Tensor:
        fill = (0, 0, 0, self.missing)
        q, key, v = (F.pad(part, fill) for part in self.split(x))
        weights = (q @ key.transpose(-2, -1) + self.filled).softmax(dim=-1)
        out = (weights @ v)[..., : self.sizes.n, :]
        return self.merge(out.permute(3, 0, 1, 2, 4))


class PaddedMore(Padded):
    """The same to a multiple of 64, which is a tile of the fused kernel."""

    multiple = 64


class PositionInProduct(Tried):
    """[q, I] [k, bias^T]^T: the position bias as n more channels of the product.

    Heads of d + n channels are not fused, and the constant ones are written for every image.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        n, k, a, _, _ = self.sizes
        self.identity = constant(torch.eye(n))
        columns = self.bias.transpose(-2, -1).expand(k, 1, a, n, n)
        self.columns = constant(columns)

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.split(x)
        shape = (*q.shape[:-1], self.sizes.n)
        q = torch.cat([q, self.identity.expand(shape)], dim=-1)
        key = torch.cat([key, self.columns.expand(shape)], dim=-1)
        return self.attend(q @ key.transpose(-2, -1), v)


class Operator(Tried):
    """The ``Attention`` operator of opset 23 on (k * b, a, n, d).

    Fused like the three operators, but with a copy of each of the three, and a fourth kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        n, _, a, _, d = self.sizes
        q, key, v = (part.reshape(-1, a, n, d) for part in self.split(x))
        out = F.scaled_dot_product_attention(q, key, v, attn_mask=self.mask(x), scale=1.0)
        return self.merge(out.permute(2, 0, 1, 3))

    def mask(self, x: Tensor) -> Tensor:
        """The bias of every window of every image: (k * b, a, n, n)."""
        n, k, a, _, _ = self.sizes
        return self.bias.expand(k, x.shape[1], a, n, n).reshape(-1, a, n, n)


class OperatorFlat(Operator):
    """The same operator on (k * b, n, c), which splits the heads itself.

    Two kernels fewer per block than at four axes, and still two more than without the operator.
    """

    def forward(self, x: Tensor) -> Tensor:
        n, _, a, c, _ = self.sizes
        parts = self.qkv(x).reshape(n, -1, 3 * c).transpose(0, 1).split(c, dim=-1)
        heads = {"q_num_heads": a, "kv_num_heads": a}
        out, *_ = torch.onnx.ops.attention(*parts, self.mask(x), scale=1.0, **heads)
        return self.merge(out.transpose(0, 1))


class PerHeadProjection(Tried):
    """The output projection head by head, and the sum over the heads.

    It merges the heads without a copy, but writes c channels per head before they are summed.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        _, _, a, c, d = self.sizes
        self.by_head = constant(self.proj.weight.view(c, a, d).permute(1, 2, 0))  # (a, d, c)

    def forward(self, x: Tensor) -> Tensor:
        n, k, _, c, _ = self.sizes
        q, key, v = self.split(x)
        weights = (q @ key.transpose(-2, -1) + self.bias).softmax(dim=-1)
        summed = ((weights @ v) @ self.by_head).sum(dim=2)  # (k, b, n, c)
        return summed.permute(2, 0, 1, 3).reshape(n * k, -1, c) + self.proj.bias


class BiasInFloat(Tried):
    """The packed projection without its bias, which is added in FP32.

    No difference: the bias joins the product as before.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        self.qkv = layer(weight.flatten(0, 1), None)
        self.added = constant(bias.flatten())

    def split(self, x: Tensor) -> list[Tensor]:
        packed = (self.qkv(x).float() + self.added.float()).to(x.dtype)
        return self.rank_five(*packed.split(self.sizes.c, dim=-1))
