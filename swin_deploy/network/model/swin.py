"""Swin Transformer V1 and V2, eager: the image order, the rolls and the masks of the papers.

Parameter names are those of the authors' own release, so that their checkpoints need no renaming.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.network.interface import Size
from swin_deploy.network.model.attention import (
    CosineWindowAttention,
    WindowAttention,
    join_windows,
    shift_mask,
    split_windows,
)
from swin_deploy.network.swin import (
    Activation,
    StageGeometry,
    SwinConfig,
    patch_grid,
    stage_geometry,
)


class PatchEmbed(nn.Module):
    """A strided convolution over patches, mostly with a norm: (b, 3, H, W) -> (b, h, w, c)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.grid = patch_grid(config)
        self.proj = nn.Conv2d(
            config.in_channels, config.embed_dim, config.patch_size, stride=config.patch_size
        )
        self.norm = nn.LayerNorm(config.embed_dim) if config.patch_norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        h, w = (size * self.patch for size in self.grid)
        missing = max(0, h - image.shape[2]), max(0, w - image.shape[3])
        if any(missing):
            image = F.pad(image, (0, missing[1], 0, missing[0]))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Linear, GELU, linear: (..., c) -> (..., c).

    Args:
        channels: c.
        hidden: Channels between the two.
        activation: As of ``SwinConfig``.
    """

    def __init__(self, channels: int, hidden: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.approximate = "tanh" if activation == "gelu_tanh" else "none"
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))  # type: ignore[no-any-return]


class SwinBlock(nn.Module):
    """Attention inside (shifted) windows and an MLP, each residual.

    V1 normalises what enters the two branches, V2 what leaves them.

    Args:
        config: The network.
        stage: Its stage.
        index: Of the stage, from 0.
        shift: (0, 0), or that of the stage.
    """

    mask: Tensor | None
    attn: WindowAttention | CosineWindowAttention

    def __init__(self, config: SwinConfig, stage: StageGeometry, index: int, shift: Size) -> None:
        super().__init__()
        c, heads, window = stage.channels, stage.heads, stage.window
        self.version = config.version
        self.stage, self.shift = stage, shift
        self.rolls_first = config.semantics.padding == "after_roll"
        self.norm1 = nn.LayerNorm(c)
        if config.version == 1:
            self.attn = WindowAttention(c, heads, window, config.qkv_bias, config.position_bias)
        else:
            trained = (config.pretrained_window_sizes or (0,) * len(config.depths))[index]
            self.attn = CosineWindowAttention(c, heads, window, config.qkv_bias, trained)
        self.norm2 = nn.LayerNorm(c)
        self.mlp = Mlp(c, int(c * config.mlp_ratio), config.activation)
        mask = None
        if any(shift):
            mask = shift_mask(stage.padded, window, shift, config.semantics.mask_value)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c)."""
        if self.version == 1:
            x = x + self.attend(self.norm1(x))
            return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]
        x = x + self.norm1(self.attend(x))
        return x + self.norm2(self.mlp(x))  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        """Attention inside the shifted windows of the padded grid: (b, h, w, c) -> the same."""
        stage = self.stage
        (h, w), (rows, columns) = stage.grid, stage.padded
        if self.rolls_first:
            x = _roll(x, -self.shift[0], -self.shift[1])
        if stage.is_padded:
            x = F.pad(x, (0, 0, 0, columns - w, 0, rows - h))
        if not self.rolls_first:
            x = _roll(x, -self.shift[0], -self.shift[1])
        x = self.attn(split_windows(x, stage.window), self.mask)
        x = join_windows(x, stage.window, stage.padded)
        if not self.rolls_first:
            x = _roll(x, *self.shift)
        if stage.is_padded:
            x = x[:, :h, :w]
        if self.rolls_first:
            x = _roll(x, *self.shift)
        return x


def _roll(x: Tensor, rows: int, columns: int) -> Tensor:
    return torch.roll(x, (rows, columns), (1, 2)) if rows or columns else x


class PatchMerging(nn.Module):
    """Four tokens become one of twice the channels: (b, h, w, c) -> (b, h/2, w/2, 2c).

    An odd side is padded with zeros. V1 normalises and then projects, V2 the other way round.

    Args:
        config: The network.
        channels: c.
    """

    def __init__(self, config: SwinConfig, channels: int) -> None:
        super().__init__()
        self.version, self.order = config.version, config.semantics.merge_order
        normal = (4 if config.version == 1 else 2) * channels
        self.norm = nn.LayerNorm(normal) if config.merge_norm else nn.Identity()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=config.merge_bias)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[1:3]
        if h % 2 or w % 2:
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        x = join_groups(x, self.order)
        if self.version == 1:
            return self.reduction(self.norm(x))  # type: ignore[no-any-return]
        return self.norm(self.reduction(x))  # type: ignore[no-any-return]


# Merge order -> the axes (row 2, column 4, channel 5) of a group, slowest first.
MERGE_AXES = {"columns": (4, 2, 5), "rows": (2, 4, 5), "channels": (5, 2, 4)}


def join_groups(x: Tensor, order: str) -> Tensor:
    """What a merge projects: (b, h, w, c) -> (b, h/2, w/2, 4c), h and w even.

    Args:
        x: A feature map.
        order: As ``Semantics.merge_order``.
    """
    b, h, w, c = x.shape
    if order == "channels_last":
        # To an Unfold that expects (b, c, h, w) rows are channels, columns rows, channels columns.
        x = x.reshape(b, h, w // 2, 2, c // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(b, 4 * c, h // 2, w // 2).permute(0, 2, 3, 1)
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)  # (b, h/2, row, w/2, column, c)
    return x.permute(0, 1, 3, *MERGE_AXES[order]).reshape(b, h // 2, w // 2, 4 * c)


class SwinStage(nn.Module):
    """The blocks of one grid, and the merge that ends it in all stages but the last."""

    def __init__(self, config: SwinConfig, stage: StageGeometry, number: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(config, stage, number, stage.shift if index % 2 else (0, 0))
            for index in range(stage.depth)
        )
        last = number + 1 == len(config.depths)
        self.downsample = None if last else PatchMerging(config, stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c): the blocks without the merge."""
        for block in self.blocks:
            x = block(x)
        return x


HEAD_FUNCTIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


def make_head(config: SwinConfig, channels: int) -> nn.Module:
    """(b, channels) -> (b, classes): a linear layer, or several with functions between them."""
    widths = (channels, *config.head_hidden, config.num_classes)
    layers: list[nn.Module] = []
    for here, there in itertools.pairwise(widths):
        layers += [nn.Linear(here, there), HEAD_FUNCTIONS[config.head_activation]()]
    return nn.Sequential(*layers[:-1]) if config.head_hidden else layers[0]


class SwinTransformer(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes).

    Without classes there is no head, and mostly no final norm: such a backbone has ``stages`` only.
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
        channels = geometry[-1].channels
        if config.has_norm:
            self.norm = nn.Identity() if config.fc_norm else nn.LayerNorm(channels)
            self.fc_norm = nn.LayerNorm(channels) if config.fc_norm else nn.Identity()
        if config.num_classes:
            self.head = make_head(config, channels)

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

    def embedding(self, image: Tensor) -> Tensor:
        """What the head reads: the mean over all tokens, (b, c), after the last norm."""
        x = self.patch_embed(image)
        for layer in cast("Sequence[SwinStage]", self.layers):
            x = layer(x)
            if layer.downsample is not None:
                x = layer.downsample(x)
        pooled = self.norm(x).mean(dim=(1, 2))  # (b, c)
        return self.fc_norm(pooled)  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.embedding(image))  # type: ignore[no-any-return]
