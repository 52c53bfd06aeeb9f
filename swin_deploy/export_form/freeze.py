"""Eager Swin -> frozen Swin: same outputs, no roll, no mask arithmetic, no table lookup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from swin_deploy.export_form.blocks import FrozenBlock, FrozenMerge, FrozenPatchEmbed
from swin_deploy.export_form.forms import Form
from swin_deploy.export_form.order import invert, steps_between, window_order
from swin_deploy.export_form.stream import Stream
from swin_deploy.geometry import StageGeometry, stage_geometry
from swin_deploy.model.blocks import SwinBlock
from swin_deploy.model.swin import SwinStage, SwinTransformer


class FrozenStage(nn.Module):
    """One stage: how the stream enters it, and its blocks.

    Args:
        enter: From the image, or from the stage before, into the order of the first block.
        stage: The trained stage.
        geometry: Its grid.
        rolls_first: Whether its grid rolls before it is padded.
        norm: Of its feature map; None if that has none.
        form: Of its attentions.
    """

    back: Tensor | None

    def __init__(
        self,
        enter: nn.Module,
        stage: SwinStage,
        geometry: StageGeometry,
        rolls_first: bool,
        norm: nn.Module | None,
        form: Form,
    ) -> None:
        super().__init__()
        self.enter = enter
        self.geometry = geometry
        here = window_order(geometry, (0, 0), rolls_first)
        blocks = []
        for block in cast("Sequence[SwinBlock]", stage.blocks):
            there = window_order(geometry, block.shift, rolls_first)
            steps = None if torch.equal(here, there) else steps_between(here, there)
            blocks.append(FrozenBlock(block, form.attention(block), there, steps))
            here = there
        self.blocks = nn.ModuleList(blocks)
        self.order = here  # of the stream that leaves the stage
        moved = not torch.equal(here, torch.arange(len(here)))
        self.register_buffer("back", invert(here) if moved else None, persistent=False)
        self.map_norm = norm

    def forward(self, stream: Stream | Tensor) -> Stream:
        """The stream of the stage before, or the image -> the stream that leaves."""
        entered: Stream = self.enter(stream)
        for block in self.blocks:
            entered = block(entered)
        return entered

    def feature_map(self, stream: Stream) -> Tensor:
        """The stream that leaves, in image order -> (b, h, w, c)."""
        h, w = self.geometry.grid
        x = stream.gather(self.back)
        if self.map_norm is not None:
            x = self.map_norm(x)
        return x.reshape(h, w, -1, self.geometry.channels).permute(2, 0, 1, 3)


class FrozenSwin(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes). Made by ``freeze_swin``."""

    tokens: Tensor | None

    def __init__(self, model: SwinTransformer, form: Form) -> None:
        super().__init__()
        geometry = stage_geometry(model.config)
        rolls_first = model.config.semantics.padding == "after_roll"
        enter: nn.Module = FrozenPatchEmbed(model.patch_embed, geometry[0])
        stages: list[FrozenStage] = []
        layers = cast("Sequence[SwinStage]", model.layers)
        for index, (layer, grid) in enumerate(zip(layers, geometry, strict=True)):
            merge = layers[index - 1].downsample if index else None
            if merge is not None:
                there = window_order(grid, (0, 0), rolls_first)
                enter = FrozenMerge(merge, geometry[index - 1], stages[-1].order, there)
            norm = dict(model.stage_norms.items()).get(str(index))
            stages.append(FrozenStage(enter, layer, grid, rolls_first, norm, form))
        self.layers = nn.ModuleList(stages)
        tokens = invert(stages[-1].order) if geometry[-1].is_padded else None
        self.register_buffer("tokens", tokens, persistent=False)
        if model.config.num_classes:
            self.norm, self.head = model.norm, model.head

    def stages(self, image: Tensor) -> list[Tensor]:
        """The output of every stage, in image order as the eager network has it: (b, h, w, c)."""
        stream: Any = image  # of the image the first stage makes a stream
        outputs = []
        for layer in cast("Sequence[FrozenStage]", self.layers):
            stream = layer(stream)
            outputs.append(layer.feature_map(stream))
        return outputs

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way that the eager network has too: ``stages``, by name."""
        return {f"stage {n}": x for n, x in enumerate(self.stages(image), start=1)}

    def forward(self, image: Tensor) -> Tensor:
        stream: Any = image
        for layer in self.layers:
            stream = layer(stream)
        x = stream.gather(self.tokens)
        return self.head(self.norm(x).mean(dim=0))  # type: ignore[no-any-return]


def freeze_swin(model: SwinTransformer, form: Form) -> FrozenSwin:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but those that its
            attentions change, so that a large network is not held twice.
        form: Of its attentions.
    """
    with torch.no_grad():
        return FrozenSwin(model, form).eval().requires_grad_(False)
