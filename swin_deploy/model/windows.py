"""Cutting a token grid into windows, and what only depends on that cut: indices and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from swin_deploy.preprocessing import Size


def split_windows(x: Tensor, window: Size) -> Tensor:
    """Cut the grid into windows: (b, h, w, c) -> (b, k, n, c)."""
    b, h, w, c = x.shape
    p, q = window
    x = x.reshape(b, h // p, p, w // q, q, c).transpose(2, 3)  # (b, h/p, w/q, p, q, c)
    return x.reshape(b, (h // p) * (w // q), p * q, c)


def join_windows(x: Tensor, window: Size, grid: Size) -> Tensor:
    """Undo ``split_windows``: (b, k, n, c) -> (b, h, w, c)."""
    b, c = x.shape[0], x.shape[-1]
    (p, q), (h, w) = window, grid
    x = x.reshape(b, h // p, w // q, p, q, c).transpose(2, 3)  # (b, h/p, p, w/q, q, c)
    return x.reshape(b, h, w, c)


def relative_position_index(window: Size) -> Tensor:
    """Row of the position bias table for each pair of tokens: (n, n), int64.

    The table is ordered by the row offset, then the column offset, of the query minus the key.
    """
    p, q = window
    rows, columns = torch.meshgrid(torch.arange(p), torch.arange(q), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()  # (n,) each
    row_offset = rows[:, None] - rows[None, :] + p - 1
    column_offset = columns[:, None] - columns[None, :] + q - 1
    return row_offset * (2 * q - 1) + column_offset


def shift_mask(grid: Size, window: Size, shift: Size, masked: float = -100.0) -> Tensor:
    """What keeps tokens apart that only the cyclic shift brought together: (k, n, n), float32.

    0 between tokens of one region, ``masked`` between regions. Along a shifted axis the grid has
    three regions: up to the last window, the part of it that stayed, and the part that wrapped.
    """
    regions = [
        torch.zeros(size, dtype=torch.long)
        if not step
        else torch.arange(size).ge(size - side).long() + torch.arange(size).ge(size - step).long()
        for size, side, step in zip(grid, window, shift, strict=True)
    ]
    region = 3 * regions[0][:, None] + regions[1][None, :]  # (h, w)
    windows = split_windows(region[None, :, :, None], window)[0, :, :, 0]  # (k, n)
    apart = windows[:, :, None] != windows[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, masked)
