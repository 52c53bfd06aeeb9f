"""Eager Swin -> frozen Swin: same outputs, no roll, no mask arithmetic, no table lookup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from swin_deploy.architecture import StageGeometry, stage_geometry
from swin_deploy.export_form.blocks import FrozenBlock, FrozenMerge, FrozenPatchEmbed
from swin_deploy.export_form.order import invert, steps_between, window_order
from swin_deploy.model.swin import SwinBlock, SwinStage, SwinTransformer


class FrozenStage(nn.Module):
    """One stage: how the stream enters it, and its blocks.

    Args:
        enter: From the image, or from the stage before, into the order of the first block.
        stage: The trained stage.
        geometry: Its grid.
    """

    def __init__(self, enter: nn.Module, stage: SwinStage, geometry: StageGeometry) -> None:
        super().__init__()
        self.enter = enter
        self.geometry = geometry
        here = window_order(geometry.grid, geometry.window, (0, 0))
        blocks = []
        for block in cast("Sequence[SwinBlock]", stage.blocks):
            there = window_order(geometry.grid, geometry.window, block.shift)
            steps = None if torch.equal(here, there) else steps_between(here, there)
            blocks.append(FrozenBlock(block, geometry, steps))
            here = there
        self.blocks = nn.ModuleList(blocks)
        self.order = here  # of the stream that leaves the stage

    def forward(self, x: Tensor) -> Tensor:
        """The stream that arrives -> (n, k * b, c)."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x

    def in_image_order(self, x: Tensor) -> Tensor:
        """The stream that leaves, (n, k * b, c) -> (b, h, w, c)."""
        h, w = self.geometry.grid
        x = x.reshape(h * w, -1, self.geometry.channels)[invert(self.order)]  # (h * w, b, c)
        return x.transpose(0, 1).reshape(-1, h, w, self.geometry.channels)


class FrozenSwin(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes). Made by ``freeze_swin``."""

    def __init__(self, model: SwinTransformer) -> None:
        super().__init__()
        geometry = stage_geometry(model.config)
        enter: nn.Module = FrozenPatchEmbed(model.patch_embed, model.config, geometry[0])
        stages: list[FrozenStage] = []
        layers = cast("Sequence[SwinStage]", model.layers)
        for index, (layer, grid) in enumerate(zip(layers, geometry, strict=True)):
            merge = layers[index - 1].downsample if index else None
            if merge is not None:
                there = window_order(grid.grid, grid.window, (0, 0))
                enter = FrozenMerge(merge, geometry[index - 1], stages[-1].order, there)
            stages.append(FrozenStage(enter, layer, grid))
        self.layers = nn.ModuleList(stages)
        self.tokens = geometry[-1].tokens
        self.norm, self.head = model.norm, model.head

    def stages(self, image: Tensor) -> list[Tensor]:
        """The output of every stage, in image order as the eager network has it: (b, h, w, c)."""
        x, outputs = image, []
        for layer in cast("Sequence[FrozenStage]", self.layers):
            x = layer(x)
            outputs.append(layer.in_image_order(x))
        return outputs

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way that the eager network has too: ``stages``, by name."""
        return {f"stage {n}": x for n, x in enumerate(self.stages(image), start=1)}

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        x = x.reshape(self.tokens, -1, x.shape[-1]).mean(dim=0)  # (b, c)
        return self.head(x)  # type: ignore[no-any-return]


def freeze_swin(model: SwinTransformer) -> FrozenSwin:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but the scaled
            projections, so that a large network is not held twice.
    """
    with torch.no_grad():
        return FrozenSwin(model).eval().requires_grad_(False)
