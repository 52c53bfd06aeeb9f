"""Token orders: which token of the image sits in which slot of the stream.

An order is an int64 tensor (n * k,): slot -> index of the token in row-major image order, or -1
where windows are padded and the slot holds no token. Slots run over (token in window, window), the
window fastest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_deploy.geometry import StageGeometry
from swin_deploy.preprocessing import Size

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
