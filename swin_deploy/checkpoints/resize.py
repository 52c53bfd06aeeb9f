"""Another window for trained weights, asked for with ``--window``: as the authors fine-tune."""

from __future__ import annotations

import math
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from swin_deploy.architecture import SwinConfig
from swin_deploy.checkpoints.dialect import TABLE, Tensors
from swin_deploy.errors import InputError
from swin_deploy.geometry import stage_geometry


def resize_windows(
    tensors: Tensors, native: SwinConfig, config: SwinConfig
) -> tuple[Tensors, SwinConfig, list[str]]:
    """Fit weights of one window size to another.

    V1: bicubic interpolation of the position bias tables, as load_pretrained of the authors' code.
    V2: nothing is interpolated; the position MLP goes on with the scale that it was trained with.

    Args:
        tensors: In our names.
        native: What they were trained as.
        config: What they become; differs in image and window size.

    Returns:
        The tensors, the config (V2: with the windows of the training) and what to tell the user.

    Raises:
        InputError: A table is not square.
    """
    if native.version == 2:
        trained = native.pretrained_window_sizes or (0,) * len(native.depths)
        sizes = tuple(
            size or stage.window[0]
            for size, stage in zip(trained, stage_geometry(native), strict=True)
        )
        note = f"windows of {config.window_size}, positions scaled as trained with {sizes}"
        return tensors, replace(config, pretrained_window_sizes=sizes), [note]
    resized = dict(tensors)
    changes: dict[str, int] = {}
    for stage, geometry in enumerate(stage_geometry(config)):
        rows, columns = (2 * side - 1 for side in geometry.window)
        for block in range(geometry.depth):
            name = f"layers.{stage}.blocks.{block}.attn.{TABLE}"
            if name not in tensors or tensors[name].shape[0] == rows * columns:
                continue
            table, side = _square(name, tensors[name])
            bicubic = F.interpolate(table, size=(rows, columns), mode="bicubic")
            resized[name] = bicubic.flatten(2)[0].T.contiguous()
            change = f"{side}x{side} to {rows}x{columns}"
            changes[change] = changes.get(change, 0) + 1
    notes = [
        f"{count} position bias tables were resized from {change}, bicubic"
        for change, count in changes.items()
    ]
    return resized, config, notes


def _square(name: str, table: Tensor) -> tuple[Tensor, int]:
    """A table (rows, a) as an image (1, a, side, side)."""
    side = math.isqrt(table.shape[0])
    if side**2 != table.shape[0]:
        raise InputError(f"{name} has {table.shape[0]} rows: its window is not square")
    return table.T.reshape(1, -1, side, side), side
