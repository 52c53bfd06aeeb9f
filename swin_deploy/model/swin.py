"""Swin Transformer V1 and V2, eager: the image order, the rolls and the masks of the papers.

Parameter names are those of the authors' own release, so that their checkpoints need no renaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from swin_deploy.architecture import SwinConfig
from swin_deploy.geometry import StageGeometry, stage_geometry
from swin_deploy.model.blocks import PatchEmbed, PatchMerging, SwinBlock


class SwinStage(nn.Module):
    """The blocks of one grid, and the merge that ends it in all stages but the last."""

    def __init__(self, config: SwinConfig, stage: StageGeometry, number: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(config, stage, number, stage.shift if index % 2 else (0, 0))
            for index in range(stage.depth)
        )
        self.downsample = (
            PatchMerging(stage.channels, config.version, config.semantics.merge_order)
            if number + 1 < len(config.depths)
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c): the blocks without the merge."""
        for block in self.blocks:
            x = block(x)
        return x


class SwinTransformer(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes).

    Without classes there is no final norm and no head: such a backbone has ``stages`` only.

    Raises:
        ConfigError: The image size fits no stage grid.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        geometry = stage_geometry(config)
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.layers = nn.ModuleList(
            SwinStage(config, stage, number) for number, stage in enumerate(geometry)
        )
        self.stage_norms = nn.ModuleDict(
            {str(stage): nn.LayerNorm(geometry[stage].channels) for stage in config.stage_norms}
        )
        if config.num_classes:
            self.norm = nn.LayerNorm(geometry[-1].channels)
            self.head = nn.Linear(geometry[-1].channels, config.num_classes)

    def stages(self, image: Tensor) -> list[Tensor]:
        """The feature map of every stage, (b, h, w, c): before its merge, after its own norm."""
        x = self.patch_embed(image)
        outputs = []
        for number, layer in enumerate(cast("Sequence[SwinStage]", self.layers)):
            x = layer(x)
            key = str(number)
            outputs.append(self.stage_norms[key](x) if key in self.stage_norms else x)
            if layer.downsample is not None:
                x = layer.downsample(x)
        return outputs

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way that the export form has too: ``stages``, by name."""
        return {f"stage {n}": x for n, x in enumerate(self.stages(image), start=1)}

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        for layer in cast("Sequence[SwinStage]", self.layers):
            x = layer(x)
            if layer.downsample is not None:
                x = layer.downsample(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))  # type: ignore[no-any-return]
