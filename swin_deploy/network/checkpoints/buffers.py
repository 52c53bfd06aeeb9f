"""What checkpoints hold beside weights: what it tells, and whether it is what we compute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.dialect import MASKED_AXES
from swin_deploy.network.checkpoints.options import Hints
from swin_deploy.network.interface import Size
from swin_deploy.network.model.attention import relative_position_index, shift_mask
from swin_deploy.network.swin import SwinConfig

_INDEX, _OFFSETS = "attn.relative_position_index", "attn.relative_coords_table"


def read_hints(buffers: Mapping[str, Tensor], depths: int) -> Hints:
    """Window and pre-training windows, as far as the buffers of the first blocks tell them.

    Args:
        buffers: In our names.
        depths: Number of stages.
    """
    window = None
    if (index := buffers.get(f"layers.0.blocks.0.{_INDEX}")) is not None:
        side = math.isqrt(math.isqrt(index.numel()))
        window = side if side**4 == index.numel() else None  # of a rectangle the tables tell
    trained = []
    for stage in range(depths):
        table = buffers.get(f"layers.{stage}.blocks.0.{_OFFSETS}")
        if table is None:
            return Hints(window_size=window)
        trained.append(_trained_window(table))
    return Hints(window_size=window, pretrained_window_sizes=tuple(trained) if any(trained) else ())


def _trained_window(table: Tensor) -> int:
    """Pre-training window behind V2's offsets (1, 2p-1, 2q-1, 2); 0 if it is the window itself.

    Their largest is log2(1 + 8 (p - 1) / (trained - 1)) / 3, which is 1.057 for the window itself.
    """
    reach = (table.shape[1] - 1) // 2  # p - 1
    stretch = (2 ** (3 * table.abs().max().item()) - 1) / 8  # (p - 1) / (trained - 1)
    trained = round(reach / stretch) + 1 if stretch else 0
    return 0 if trained == reach + 1 else trained


def require_standard(path: Path, buffers: Mapping[str, Tensor], config: SwinConfig) -> None:
    """Check that saved buffers are what our network computes by itself."""
    for name, value in buffers.items():
        kind = name.rpartition(".")[2]
        if name.endswith(_INDEX):
            side = math.isqrt(math.isqrt(value.numel()))
            expected = relative_position_index((side, side)).flatten()
            if value.numel() == expected.numel() and not torch.equal(value.flatten(), expected):
                raise InputError(f"{path}: {name} counts positions in another way than Swin does")
        elif kind in MASKED_AXES:
            _require_mask(path, name, value, MASKED_AXES[kind])
        elif name.endswith("attn_mask"):
            values = {*torch.unique(value).tolist()}
            if not values <= {0.0, config.semantics.mask_value}:
                raise InputError(
                    f"{path}: {name} holds {sorted(values)[:3]}, but masks here are "
                    f"{config.semantics.mask_value:g}",
                    f"--config FILE with mask_value = {min(values):g} in [semantics]",
                )


def _require_mask(path: Path, name: str, value: Tensor, axes: Size) -> None:
    """Check the mask of a window at the edge of a grid whose windows shift along ``axes``."""
    side = math.isqrt(math.isqrt(value.numel()))
    step, window = side // 2, (side, side)
    if (
        side == 0
        or value.shape != (side**2, side**2)
        or not torch.equal(
            value.float(),
            shift_mask(window, window, (step * axes[0], step * axes[1]), -math.inf)[0],
        )
    ):
        raise InputError(f"{path}: {name} keeps other tokens apart than shifted windows do")
