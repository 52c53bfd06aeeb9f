"""Forms of V1's attention around one batched product, x (1, T, c) @ W (3, c, c).

The subject of each is what may be done around the product before the copies come back.
``swin_deploy.export_form.slabs`` is the one that was chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion.parts import Tried, constant
from swin_deploy.export_form.slabs import SlabAttention, shifted
from swin_deploy.model.blocks import SwinBlock


class SlabsWithBiases(Tried):
    """One batched product, its biases added to the result, and bias - (-q) k^T.

    The Add after the product brings all three copies back, by a kernel each.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        negated = torch.tensor([-1.0, 1, 1])[:, None, None]
        self.weight = constant((weight * negated).transpose(1, 2).contiguous())
        self.added = constant(bias[:, None] * negated)  # (3, 1, c)

    def products(self, x: Tensor) -> tuple[Tensor, ...]:
        """Negated query, key and value, (n * k * b, c) each."""
        return (x.reshape(1, -1, self.sizes.c) @ self.weight + self.added).unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.rank_three(*self.products(x))
        return self.attend_three(self.bias - self.windows(q @ key.transpose(1, 2)), v)


class SlabsWithQueryBias(SlabsWithBiases):
    """The same, but only the query's bias is added, to its slab: the others need not be.

    The query is written once more, by a kernel of its own.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        self.proj = shifted(self.proj, bias[2].double())

    def products(self, x: Tensor) -> tuple[Tensor, ...]:
        q, key, v = (x.reshape(1, -1, self.sizes.c) @ self.weight).unbind(0)
        return q + self.added[0], key, v


class SlabsWithOnes(SlabsWithBiases):
    """The biases as a row of the weight, for a channel of ones that is appended to the input.

    Appending writes the input once more; by eight channels, so that rows stay aligned.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        rest = torch.zeros(3, 7, self.sizes.c)
        self.weight = constant(torch.cat([self.weight, self.added, rest], dim=1))

    def products(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.pad(x.reshape(1, -1, self.sizes.c), (0, 8), value=1.0)
        return (x @ self.weight).unbind(0)


class SlabsWithColumn(SlabsWithQueryBias):
    """The query's bias as a column of the logits, b_q k^T, from a product of its own.

    Fewer bytes than adding it, but more kernels: the product, its layout, its sum.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight, bias)
        _, _, a, c, d = self.sizes
        by_head = self.weight[1].view(c, a, d) * self.added[0].view(a, d)
        self.column = constant(by_head.sum(dim=-1))  # (c, a)

    def forward(self, x: Tensor) -> Tensor:
        n, k, a, c, _ = self.sizes
        parts = (x.reshape(1, -1, c) @ self.weight).unbind(0)
        q, key, v = self.rank_three(*parts)
        column = (x.reshape(n, -1, c) @ self.column).reshape(n, -1).t().reshape(k, -1, a, 1, n)
        return self.attend_three(self.bias - self.windows(q @ key.transpose(1, 2)) - column, v)


class SlabsAdded(SlabAttention):
    """The chosen form, but for q k^T + bias instead of bias - (-q) k^T.

    The same in all released networks, with heads of 32 channels; but of the attentions with heads
    of 16 some are not fused then (tests/test_fusion_scripts.py).
    """

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        self.weight[0] *= -1

    def forward(self, x: Tensor) -> Tensor:
        stage = self.stage
        n, k, a, c = stage.window_tokens, stage.windows, stage.heads, stage.channels
        slabs = x.reshape(1, -1, c) @ self.weight
        q, key, v = (slab.reshape(n, -1, c // a).transpose(0, 1) for slab in slabs.unbind(0))
        logits = (q @ key.transpose(1, 2)).reshape(k, -1, a, n, n) + self.bias
        weights = logits.reshape(-1, n, n).softmax(dim=-1)
        out = (weights @ v).transpose(0, 1).reshape(n * k, -1, c)
        return self.proj(out)  # type: ignore[no-any-return]


class SlabsFive(SlabAttention):
    """The chosen form, but for five axes (k, b, a, n, d) in attention instead of three.

    All three are copied, by one kernel, as out of a packed projection.
    """

    def forward(self, x: Tensor) -> Tensor:
        stage = self.stage
        n, k, a, c = stage.window_tokens, stage.windows, stage.heads, stage.channels
        slabs = (x.reshape(1, -1, c) @ self.weight).reshape(3, n, k, -1, a, c // a)
        q, key, v = slabs.permute(0, 2, 3, 4, 1, 5).unbind(0)
        weights = (self.bias - q @ key.transpose(-2, -1)).softmax(dim=-1)
        out = (weights @ v).permute(3, 0, 1, 2, 4).reshape(n * k, -1, c)
        return self.proj(out)  # type: ignore[no-any-return]


class OtherAxes(SlabAttention):
    """The chosen form, but projected as (n, k * b, c) and only then made (n * k, b, c).

    The residual Add has other axes than the product before it and falls out of its epilogue, into
    the kernel of the norm: as many kernels, more bytes.
    """

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        self.proj = _OtherAxes(self.proj, self.stage.window_tokens)


class _OtherAxes(nn.Module):
    """A linear layer on (n, k * b, c)."""

    def __init__(self, proj: nn.Linear, n: int) -> None:
        super().__init__()
        self.proj, self.n = proj, n

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.proj(x.reshape(self.n, -1, x.shape[-1]))
        return projected.reshape(x.shape)
