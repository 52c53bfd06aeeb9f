"""What the eager network holds at the points of a graph, in the order in which the graph has it.

The eager network keeps tokens in image order, (b, h, w, c); the export form in the order of the
windows at hand, (slots, b, c). Swin V2 hands its second branch on before it is normalised, so that
the sum after a block stands in the order of whoever reads it (``export_form.blocks.Stream``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_deploy.measure.verify.points import Point
from swin_deploy.network.export_form.slabs import PADDED, merge_groups, window_order
from swin_deploy.network.interface import STAGES, Outputs
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.model.build import Network, with_outputs
from swin_deploy.network.swin import StageGeometry, SwinConfig, stage_geometry

# A tensor in the layout of the graph, and which of its elements hold a token: (slots, 1, 1) bool.
Held = tuple[FloatArray, Any]


def trace_eager(
    model: Network, outputs: Outputs, points: Sequence[Point], images: FloatArray
) -> dict[str, Held]:
    """Run the eager network and read what it holds at ``points``.

    Args:
        model: In eval mode.
        outputs: What the graph gives.
        points: Of the graph; those that the eager network has no tensor for are left out.
        images: (b, channels, H, W) float32, normalised.

    Returns:
        Label of a point -> tensor, and the slots of it that count.
    """
    seen: dict[str, Tensor] = {}
    swin = isinstance(model.config, SwinConfig)
    hooks = [
        hook
        for point in points
        if (place := _place(model, point, swin)) is not None
        for hook in [_listen(*place, seen, point.label)]
    ]
    try:
        with torch.inference_mode():
            tensor = torch.from_numpy(images)
            with_outputs(model, outputs, model.config.name)(tensor)
    finally:
        for hook in hooks:
            hook.remove()
    orders = _Orders(model.config, outputs) if isinstance(model.config, SwinConfig) else None
    held: dict[str, Held] = {}
    for point in points:
        if point.label in seen:
            x = seen[point.label]
            held[point.label] = (
                _of_vit(point, x, len(model.blocks))  # type: ignore[arg-type]
                if orders is None
                else orders.arrange(point, x)
            )
    return held


def _listen(module: nn.Module, before: bool, seen: dict[str, Tensor], label: str) -> Any:
    if before:
        return module.register_forward_pre_hook(
            lambda _, inputs: seen.__setitem__(label, inputs[0])
        )
    return module.register_forward_hook(lambda _, inputs, out: seen.__setitem__(label, out))


def _place(model: Network, point: Point, swin: bool) -> tuple[nn.Module, bool] | None:
    """The module of the eager network, and whether what it reads is meant, not what it gives."""
    part, name = point.part, point.name
    if part == "embed":
        return (model.patch_embed, False) if swin else (model.get_submodule("blocks.0"), True)
    if part == "merge":
        number = int(name.split(".")[1]) - 1
        return model.get_submodule(f"layers.{number}.downsample"), False
    if part in ("norm", "head"):
        return (model.get_submodule(name), False) if hasattr(model, name) else None
    block = model.get_submodule(name)
    second = swin and model.config.version == 2  # type: ignore[union-attr]
    if part == "norm1" and not second:
        return None  # a form of attention may fold its weights away
    inner: dict[str, tuple[str, bool]] = {
        "norm1": ("norm1", False),
        "attn": ("attn.proj", False),
        "residual": ("mlp" if second else "norm2", True),
        "norm2": ("norm2", False),
        "fc1": ("mlp.fc1", False),
        "fc2": ("mlp.fc2", False),
    }
    path, before = inner.get(part, ("", False))
    return block.get_submodule(path), before


def _of_vit(point: Point, x: Tensor, depth: int) -> Held:
    last = point.name == f"blocks.{depth - 1}"
    if point.part == "head" or x.dim() == 2:
        return x.numpy(), True
    if last and point.part != "norm1":  # behind its attention the export form has one token
        return x[:, 0].contiguous().numpy(), True
    return x.transpose(0, 1).contiguous().numpy(), True


class _Orders:
    """Image order -> the order of the graph, at every point of a Swin."""

    def __init__(self, config: SwinConfig, outputs: Outputs) -> None:
        self.config, self.outputs = config, outputs
        self.geometry = stage_geometry(config)
        self.rolls_first = config.semantics.padding == "after_roll"

    def of_block(self, stage: int, block: int) -> Tensor:
        """As ``FrozenStage`` has it."""
        grid = self.geometry[stage]
        return window_order(grid, grid.shift if block % 2 else (0, 0), self.rolls_first)

    def arrange(self, point: Point, x: Tensor) -> Held:
        """A tensor as the eager network has it -> as the graph has it."""
        if x.dim() == 2:  # behind the mean over the tokens
            return x.numpy(), True
        if point.part == "attn":  # is in windows already: (b, k, n, c)
            x = x.permute(2, 1, 0, 3).flatten(0, 1)
            stage, block = (int(n) for n in point.name.split(".")[1::2])
            present = self.of_block(stage, block) != PADDED
            return x.contiguous().numpy(), present.view(-1, 1, 1).numpy()
        rows = self._rows(point)
        x = x.flatten(1, -2).transpose(0, 1)  # (h * w, b, c)
        moved = x[rows.clamp(min=0)]  # (slots, b, c), or (slots, 4, b, c) in front of a merge
        present = rows != PADDED
        if rows.dim() == 2:
            return moved.transpose(1, 2).contiguous().numpy(), present[:, None, :, None].numpy()
        return moved.contiguous().numpy(), present.view(-1, 1, 1).numpy()

    def _rows(self, point: Point) -> Tensor:
        """Slot -> token in image order, or ``PADDED``."""
        last = len(self.geometry) - 1
        if point.part == "norm":
            return self._leaving(last)
        if point.part == "embed":
            return self.of_block(0, 0)
        numbers = [int(n) for n in point.name.split(".")[1::2] if n.isdecimal()]
        if point.part == "merge":
            return self.of_block(numbers[0], 0)
        stage, block = numbers
        if self.config.version == 1 or point.part not in ("norm2", "out"):
            return self.of_block(stage, block)
        if block + 1 < self.config.depths[stage]:
            return self.of_block(stage, block + 1)
        if stage == last:  # read by the head, or by the last map, which is in image order
            if self.outputs == STAGES:
                return torch.arange(self.geometry[stage].tokens)
            return self._leaving(stage)
        return merge_groups(self.geometry[stage].grid, self.of_block(stage + 1, 0)).T

    def _leaving(self, stage: int) -> Tensor:
        """Of the last stage; where windows are padded the tokens are put back in image order."""
        grid: StageGeometry = self.geometry[stage]
        if grid.is_padded:
            return torch.arange(grid.tokens)
        return self.of_block(stage, self.config.depths[stage] - 1)


def masked(values: FloatArray, present: Any) -> FloatArray:
    """Values with zeros where a slot holds no token."""
    return np.where(present, values, 0).astype(np.float32)
