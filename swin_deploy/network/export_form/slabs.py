"""Frozen attention of V1 whose query, key and value are read where the projection leaves them.

TensorRT's compilers copy all three in front of a fused attention, the largest kernel of a block,
unless (measured, see docs/fusion.md):

- they come from one batched product, a slab each, with nothing added to it afterwards;
- the attention has three axes;
- and, for small heads, the bias is not *added* to the logits: MatMul and Add can be taken for a
  product with a bias, and of heads of 16 channels not every attention fuses then. So the query is
  negated, and the logits are subtracted. Heads of 32, those of the released networks, fuse
  in either way.

Nothing may be added to the product, yet the projections have biases. They go elsewhere, exactly:

- The key's adds the same number to all logits of a query: it cancels in the softmax.
- The value's leaves the attention as it went in, since the weights of a query sum to 1: it is added
  to the bias of ``proj``.
- The query's, and what the bias of norm 1 adds to all three, come from the norm. Normalised
  channels sum to zero, so each one is minus the sum of all others, and the product can do without
  it. In its place the norm writes a constant, by a weight of 0 and a bias of 1, 2 or 4, and the
  product's row for it holds those biases, divided by it. The weight of the trained norm is in the
  product too. A slot without a token holds zeros, there as well: its key and value are their biases
  alone, as they should be, and its query is never read.

The slabs are brought to the same size, which changes nothing either (``even_slabs``): in INT8 they
have to share their scales.

An order is an int64 tensor (n * k,): slot -> index of the token in row-major image order, or -1
where windows are padded and the slot holds no token. Slots run over (token in window, window), the
window fastest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.core.errors import of_kind
from swin_deploy.network.export_form.attention import FrozenAttention, hold, linear, query_scale
from swin_deploy.network.interface import Size
from swin_deploy.network.model.attention import WindowAttention
from swin_deploy.network.model.swin import SwinBlock
from swin_deploy.network.swin import StageGeometry


class SlabAttention(FrozenAttention):
    """softmax(bias - (-q) k^T) v in every window: (n * k, b, c) -> the same.

    Norm 1 is not the trained one: one of its channels is the constant 1.
    """

    weight: Tensor

    def __init__(self, block: SwinBlock) -> None:
        super().__init__(block)
        qkv = of_kind(WindowAttention, block.attn).qkv
        norm, c = block.norm1, self.stage.channels
        weight = qkv.weight.double().view(3, c, c)
        bias = torch.zeros(3, c).double() if qkv.bias is None else qkv.bias.double().view(3, c)
        products = (weight * norm.weight.double()).transpose(1, 2).contiguous()  # (3, c in, c out)
        ones = weight @ norm.bias.double()  # (3, c): what a channel of 1 contributes
        ones[0] += bias[0]
        # The channel that carries least: what is put together from the others rounds a little more.
        self.unit = unit = int(products.detach().square().sum(dim=(0, 2)).argmin())
        products -= products[:, unit, None].clone()
        products[:, unit] = ones
        products[0] *= -query_scale(c, self.stage.heads)
        factor = even_slabs(products)
        self.constant = fitting_constant(products.detach(), unit)
        products[:, unit] /= self.constant
        hold(self, "weight", products.float())
        self.proj = shifted(block.attn.proj, bias[2], factor)
        self.at_slabs = nn.Identity()

    def norm1_of(self, block: SwinBlock) -> nn.LayerNorm:
        return constant_channel(block.norm1, self.unit, self.constant)

    def forward(self, x: Tensor) -> Tensor:
        stage = self.stage
        n, k, a, c = stage.window_tokens, stage.windows, stage.heads, stage.channels
        slabs = self.at_slabs(x.reshape(1, -1, c) @ self.weight)  # (3, n * k * b, c)
        q, key, v = (slab.reshape(n, -1, c // a).transpose(0, 1) for slab in slabs.unbind(0))
        negated = (q @ key.transpose(1, 2)).reshape(k, -1, a, n, n)  # q is (k * b * a, n, d)
        weights = (self.bias - negated).reshape(-1, n, n).softmax(dim=-1)  # (k * b * a, n, n)
        out = (self.at_weights(weights) @ v).transpose(0, 1).reshape(n * k, -1, c)
        return self.proj(out)  # type: ignore[no-any-return]


def even_slabs(products: Tensor) -> float:
    """Bring query, key and value to about the same size, in place.

    In INT8 all three share a scale, and so do their weights (see ``graph.int8.quantize``). Each
    channel of the key is divided by what the query's is multiplied by, which their product does not
    see. The values are multiplied by one number. To autograd all of them are constants: what the
    network computes does not depend on them.

    Args:
        products: (3, c in, c out).

    Returns:
        That number, by which their readers have to divide.
    """
    sizes = products.detach().square().sum(dim=1).sqrt()  # (3, c): of outputs for unit variance
    query, key, _ = torch.where(sizes > 0, sizes, 1.0)
    products[0] *= (key / query).sqrt()
    products[1] *= (query / key).sqrt()
    squares = products.detach().square().sum(dim=(1, 2))
    if not squares.all():
        return 1.0
    factor = float((squares[:2].mean() / squares[2]).sqrt())
    products[2] *= factor
    return factor


def fitting_constant(products: Tensor, unit: int) -> int:
    """The power of two from 1 to 4 that keeps the row of the constant in the others' range.

    In INT8 one larger row would cost all others precision. 4 is well within what normalised
    channels reach, so the norm's own range does not grow.
    """
    others = products.abs()
    row = float(others[:, unit].max())
    others[:, unit] = 0
    return next((n for n in (1, 2) if row <= n * float(others.max())), 4)


def constant_channel(norm: nn.LayerNorm, channel: int, constant: int) -> nn.LayerNorm:
    """The norm without weight and bias, but for a constant in ``channel``."""
    copy = nn.LayerNorm(norm.normalized_shape, norm.eps)
    weight, bias = torch.ones_like(norm.weight), torch.zeros_like(norm.bias)
    weight[channel], bias[channel] = 0, constant
    hold(copy, "weight", weight)
    hold(copy, "bias", bias)
    return copy


def shifted(proj: nn.Linear, value_bias: Tensor, factor: float = 1.0) -> nn.Linear:
    """The output projection, for values that lack their bias and are ``factor`` times as large.

    Args:
        proj: The trained one.
        value_bias: (c,) float64.
        factor: Of the values.
    """
    bias = proj.weight.double() @ value_bias
    if proj.bias is not None:
        bias = bias + proj.bias.double()
    return linear((proj.weight.double() / factor).float(), bias.float())


PADDED = -1  # in an order: no token


def window_order(stage: StageGeometry, shift: Size, rolls_first: bool) -> Tensor:
    """The order in which shifted windows see the grid.

    Args:
        stage: The grid and its windows.
        shift: (rows, columns), in tokens.
        rolls_first: Whether the grid rolls before it is padded to whole windows, or after.
    """
    (h, w), (rows, columns), (p, q) = stage.grid, stage.padded, stage.window
    index = torch.arange(h * w).view(h, w)
    back = -shift[0], -shift[1]
    if rolls_first:
        index = torch.roll(index, back, (0, 1))
    index = F.pad(index, (0, columns - w, 0, rows - h), value=PADDED)
    if not rolls_first:
        index = torch.roll(index, back, (0, 1))
    return index.view(rows // p, p, columns // q, q).permute(1, 3, 0, 2).reshape(-1)


def invert(order: Tensor) -> Tensor:
    """Image index -> slot, for an order slot -> image index; and the other way round."""
    slots = (order != PADDED).nonzero()[:, 0]
    inverse = torch.empty_like(slots)
    inverse[order[slots]] = slots
    return inverse


def steps_between(here: Tensor, there: Tensor) -> Tensor:
    """What to gather from a stream in order ``here`` to have it in order ``there``.

    A slot without a token gets some token of the image: what it holds is finite, and never read.
    """
    return invert(here)[there.clamp(min=0)]


def merge_groups(grid: Size, there: Tensor) -> Tensor:
    """The four tokens behind each merged one: (4, slots) image indices on the finer grid.

    Args:
        grid: The finer grid, (h, w). Beyond an odd side the index is ``PADDED``.
        there: The order of the coarser grid in which the merged tokens are wanted. Its slots
            without a token get the group of some token.
    """
    h, w = grid
    index = F.pad(torch.arange(h * w).view(h, w), (0, w % 2, 0, h % 2), value=PADDED)
    quads = index.view((h + 1) // 2, 2, (w + 1) // 2, 2)
    quads = quads.permute(3, 1, 0, 2).reshape(4, -1)  # column offset, then row offset
    return quads[:, there.clamp(min=0)]
