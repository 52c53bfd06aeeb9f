"""Token orders: which token of the image sits in which slot of the stream.

An order is an int64 tensor (h * w,): slot -> index of the token in row-major image order. Slots run
over (token in window, window), the window fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from swin_deploy.architecture import Size


def window_order(grid: Size, window: Size, shift: Size) -> Tensor:
    """The order in which shifted windows see the grid."""
    (h, w), (p, q) = grid, window
    index = torch.arange(h * w).view(h, w)
    index = torch.roll(index, (-shift[0], -shift[1]), (0, 1))
    return index.view(h // p, p, w // q, q).permute(1, 3, 0, 2).reshape(-1)


def invert(order: Tensor) -> Tensor:
    """Image index -> slot, for an order slot -> image index; and the other way round."""
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return inverse


def steps_between(here: Tensor, there: Tensor) -> Tensor:
    """What to gather from a stream in order ``here`` to have it in order ``there``."""
    return invert(here)[there]


def merge_groups(grid: Size, there: Tensor) -> Tensor:
    """The four tokens behind each merged one: (4, h/2 * w/2) image indices on the finer grid.

    Args:
        grid: The finer grid, (h, w).
        there: The order of the coarser grid in which the merged tokens are wanted.
    """
    h, w = grid
    quads = torch.arange(h * w).view(h // 2, 2, w // 2, 2)
    quads = quads.permute(3, 1, 0, 2).reshape(4, -1)  # column offset, then row offset
    return quads[:, there]
