"""Swin Transformer V1, eager: the image order, the rolls and the masks of the paper.

Parameter names are those of the authors' own release, so that their checkpoints need no renaming.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.architecture import Size, StageGeometry, SwinConfig, stage_geometry
from swin_deploy.model.attention import WindowAttention
from swin_deploy.model.windows import join_windows, shift_mask, split_windows


class PatchEmbed(nn.Module):
    """A strided convolution over patches and a LayerNorm: (b, 3, H, W) -> (b, h, w, c)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_channels, config.embed_dim, config.patch_size, stride=config.patch_size
        )
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(image).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Linear, exact GELU, linear: (..., c) -> (..., c)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class SwinBlock(nn.Module):
    """Attention inside (shifted) windows and an MLP, each behind a LayerNorm, each residual."""

    mask: Tensor | None

    def __init__(self, config: SwinConfig, stage: StageGeometry, shift: Size) -> None:
        super().__init__()
        c = stage.channels
        self.grid, self.window, self.shift = stage.grid, stage.window, shift
        self.norm1 = nn.LayerNorm(c)
        self.attn = WindowAttention(c, stage.heads, stage.window, config.qkv_bias)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = Mlp(c, int(c * config.mlp_ratio))
        mask = shift_mask(stage.grid, stage.window, shift) if any(shift) else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c)."""
        y = self.norm1(x)
        if any(self.shift):
            y = torch.roll(y, (-self.shift[0], -self.shift[1]), (1, 2))
        y = self.attn(split_windows(y, self.window), self.mask)
        y = join_windows(y, self.window, self.grid)
        if any(self.shift):
            y = torch.roll(y, self.shift, (1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Four tokens become one of twice the channels: (b, h, w, c) -> (b, h/2, w/2, 2c).

    Inside a group of 2x2 the order is (0, 0), (1, 0), (0, 1), (1, 1) as (row, column).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5)  # column, then row
        return self.reduction(self.norm(x.reshape(b, h // 2, w // 2, 4 * c)))  # type: ignore[no-any-return]


class SwinStage(nn.Module):
    """The blocks of one grid, and the merge that ends it in all stages but the last."""

    def __init__(self, config: SwinConfig, stage: StageGeometry, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(config, stage, stage.shift if index % 2 else (0, 0))
            for index in range(stage.depth)
        )
        self.downsample = PatchMerging(stage.channels) if merge else None

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c): the blocks without the merge."""
        for block in self.blocks:
            x = block(x)
        return x


class SwinTransformer(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes).

    Raises:
        ConfigError: The image size fits no stage grid.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        geometry = stage_geometry(config)
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.layers = nn.ModuleList(
            SwinStage(config, stage, merge=index + 1 < len(geometry))
            for index, stage in enumerate(geometry)
        )
        self.norm = nn.LayerNorm(geometry[-1].channels)
        self.head = nn.Linear(geometry[-1].channels, config.num_classes)

    def stages(self, image: Tensor) -> list[Tensor]:
        """The output of every stage before its merge: (b, h, w, c) each."""
        x = self.patch_embed(image)
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
            if isinstance(layer, SwinStage) and layer.downsample is not None:
                x = layer.downsample(x)
        return outputs

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way that the export form has too: ``stages``, by name."""
        return {f"stage {n}": x for n, x in enumerate(self.stages(image), start=1)}

    def classify(self, x: Tensor) -> Tensor:
        """The last stage's output (b, h, w, c) -> logits (b, classes)."""
        return self.head(self.norm(x).mean(dim=(1, 2)))  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.stages(image)[-1])
