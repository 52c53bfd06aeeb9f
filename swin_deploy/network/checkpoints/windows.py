"""Rows of position bias tables -> the windows of the stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from swin_deploy.core.errors import InputError
from swin_deploy.network.interface import Size


def windows_of(stages: Sequence[Size]) -> dict[str, Any]:
    """``window_size`` and ``stage_windows`` of ``SwinConfig``, of the windows of all stages."""
    largest = max(map(max, stages))
    squares = all(window == (largest, largest) for window in stages)
    return {"window_size": largest, "stage_windows": () if squares else tuple(stages)}


def read_windows(
    rows: Sequence[int],
    image_size: Size | None,
    patch_size: int,
    said: Sequence[Size] | None = None,
) -> dict[str, Any]:
    """``window_size`` and ``stage_windows`` of ``SwinConfig``, as far as tables tell them.

    A window of p x q tokens has a table of (2 p - 1)(2 q - 1) rows. Squares are told by that. Of
    others, timm gives a stage windows as long to each other as the sides of its grid.

    Args:
        rows: Of the table of each stage.
        image_size: That the network was trained for, in pixels; None where nothing tells it.
        patch_size: In pixels.
        said: The windows, where something beside the tensors says them; the tables have to fit.

    Raises:
        InputError: No window has such a table, or several have and nothing tells which.
    """
    if said is not None:
        if not _are_of(rows, said, _grids(image_size, patch_size, len(rows))):
            asked = ", ".join(f"{p}x{q}" for p, q in said)
            raise InputError(
                f"its position bias tables have {', '.join(map(str, rows))} rows, and windows of "
                f"{asked} are said of it",
                "the file that says so without them, or the weights that it is of",
            )
        return windows_of(said)
    if _is_one_size(rows):
        largest = max(side for side in map(_side, rows) if side is not None)
        return {"window_size": largest, "stage_windows": ()}
    grids = _grids(image_size, patch_size, len(rows))
    windows = tuple(_window(count, grid) for count, grid in zip(rows, grids, strict=True))
    if any(window is None for window in windows):
        raise InputError(
            f"its position bias tables have {', '.join(map(str, rows))} rows, which tell no windows"
            + ("" if image_size is None else f" at image {image_size[0]}x{image_size[1]}"),
            "--image HEIGHTxWIDTH that it was trained for",
        )
    known = [window for window in windows if window is not None]
    return windows_of(known)


def _side(rows: int) -> int | None:
    """Of the square window with such a table; None if there is none."""
    root = math.isqrt(rows)
    return (root + 1) // 2 if root**2 == rows and root % 2 else None


def _is_one_size(rows: Sequence[int]) -> bool:
    """Whether one square window makes the tables of all stages.

    Where a grid is smaller than a window, the window and its table shrink, maybe along one axis:
    a window that is smaller is a whole grid, and the next one is half of it.
    """
    sides = [_side(count) for count in rows]
    known = [side for side in sides if side is not None]
    if not known:
        return False
    for here, after in pairwise(sides):
        if here is None or here == max(known):
            continue
        if after not in (None, here // 2, (here + 1) // 2):
            return False
    return True


def _are_of(rows: Sequence[int], windows: Sequence[Size], grids: Iterable[Size | None]) -> bool:
    """Whether the tables are of these windows, each of them no larger than its grid."""
    if len(rows) != len(windows):
        return False
    for count, (p, q), grid in zip(rows, windows, grids, strict=True):
        high, wide = (p, q) if grid is None else (min(p, grid[0]), min(q, grid[1]))
        if count not in ((2 * p - 1) * (2 * q - 1), (2 * high - 1) * (2 * wide - 1)):
            return False
    return True


def _grids(image_size: Size | None, patch_size: int, stages: int) -> Iterable[Size | None]:
    if image_size is None:
        return [None] * stages
    grid = image_size[0] // patch_size, image_size[1] // patch_size
    grids = []
    for _ in range(stages):
        grids.append(grid)
        grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    return grids


def _window(rows: int, grid: Size | None) -> Size | None:
    """The window with such a table: a square, or else one in the proportions of the grid."""
    if (side := _side(rows)) is not None:
        return side, side
    if grid is None or rows % 2 == 0:
        return None
    fitting = [
        ((first + 1) // 2, (rows // first + 1) // 2)
        for first in range(1, rows + 1, 2)
        if rows % first == 0
    ]
    exact = [(p, q) for p, q in fitting if p * grid[1] == q * grid[0]]
    return exact[0] if len(exact) == 1 else None
