"""A Swin Transformer as plain data, and the grid arithmetic that decides what it accepts.

Nothing here needs torch: a wrong size is refused before anything heavy is imported.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from swin_deploy.errors import ConfigError

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """The architecture of a Swin V1 classifier.

    Attributes:
        name: Names the run folder; not part of the arithmetic.
        image_size: (height, width) of the input, in pixels.
        patch_size: Side of a patch, in pixels.
        in_channels: Channels of the image.
        embed_dim: Channels after the patch embedding; doubled by every merge.
        depths: Blocks per stage. Odd-numbered blocks shift their windows.
        num_heads: Attention heads per stage.
        window_size: Side of an attention window, in tokens. Along an axis on which the stage's grid
            is not larger, the window shrinks to the grid and nothing shifts (timm's rule).
        mlp_ratio: Hidden channels of the MLP over its input channels.
        qkv_bias: Whether the query, key and value projection has a bias.
        num_classes: Width of the head.

    Raises:
        ConfigError: A value is impossible by itself or beside the others.
    """

    name: str
    image_size: Size = (224, 224)
    patch_size: int = 4
    in_channels: int = 3
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name) is None:
            raise ConfigError(
                f"name = {self.name!r} cannot name a folder",
                "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
            )
        for field in ("patch_size", "in_channels", "embed_dim", "window_size", "num_classes"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} = {getattr(self, field)} must be at least 1")
        for field in ("image_size", "depths", "num_heads"):
            values = getattr(self, field)
            if not values or min(values) < 1:
                raise ConfigError(f"{field} = {list(values)} needs values of at least 1")
        if len(self.depths) != len(self.num_heads):
            raise ConfigError(
                f"depths has {len(self.depths)} stages and num_heads has {len(self.num_heads)}",
                "one number of each per stage",
            )
        if not math.isfinite(self.mlp_ratio) or self.embed_dim * self.mlp_ratio < 1:
            raise ConfigError(f"mlp_ratio = {self.mlp_ratio} leaves the MLP without channels")
        for stage, heads in enumerate(self.num_heads):
            if (channels := self.embed_dim << stage) % heads:
                raise ConfigError(
                    f"num_heads[{stage}] = {heads} does not divide that stage's {channels} channels"
                )


@dataclass(frozen=True, slots=True)
class StageGeometry:
    """The token grid of one stage. Pairs are (rows, columns), in tokens."""

    grid: Size
    window: Size
    shift: Size
    channels: int
    heads: int
    depth: int

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return self.grid[0] * self.grid[1]

    @property
    def window_tokens(self) -> int:
        """Tokens per window."""
        return self.window[0] * self.window[1]

    @property
    def windows(self) -> int:
        """Windows per image."""
        return self.tokens // self.window_tokens


def stage_geometry(config: SwinConfig) -> tuple[StageGeometry, ...]:
    """The grid, window and shift of every stage.

    Raises:
        ConfigError: The image size fits no stage grid; names the nearest sizes that do.
    """
    for axis, pixels in zip(("height", "width"), config.image_size, strict=True):
        if (reason := _axis_problem(config, pixels)) is not None:
            raise ConfigError(
                f"{config.name}: image {axis} {pixels} does not work: {reason}",
                _nearest_sizes(config, pixels),
            )
    stages = []
    for index, (depth, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
        rows, columns = (pixels // config.patch_size >> index for pixels in config.image_size)
        window = (min(config.window_size, rows), min(config.window_size, columns))
        shift = (_shift(config, rows), _shift(config, columns))
        stages.append(
            StageGeometry((rows, columns), window, shift, config.embed_dim << index, heads, depth)
        )
    return tuple(stages)


def _shift(config: SwinConfig, tokens: int) -> int:
    return config.window_size // 2 if tokens > config.window_size else 0


def _axis_problem(config: SwinConfig, pixels: int) -> str | None:
    """Why ``pixels`` along one axis cannot be used; None if they can."""
    if pixels % config.patch_size:
        return f"it is not a multiple of the patch size {config.patch_size}"
    tokens = pixels // config.patch_size
    if tokens == 0:
        return f"it is smaller than one patch of {config.patch_size}"
    for stage in range(len(config.depths)):
        if tokens > config.window_size and tokens % config.window_size:
            return (
                f"stage {stage + 1} has {tokens} tokens along it, "
                f"which windows of {config.window_size} do not tile"
            )
        if stage + 1 < len(config.depths):
            if tokens % 2:
                return f"stage {stage + 1} has {tokens} tokens along it, which merging cannot halve"
            tokens //= 2
    return None


def _nearest_sizes(config: SwinConfig, pixels: int) -> str:
    """The working sizes on both sides of ``pixels``, and the windows that would fit it."""
    reach = config.patch_size * config.window_size << len(config.depths)
    below = next((p for p in range(pixels, 0, -1) if _axis_problem(config, p) is None), None)
    above = next(
        (p for p in range(pixels, pixels + reach + 1) if _axis_problem(config, p) is None), None
    )
    sizes = " or ".join(str(size) for size in (below, above) if size is not None)
    windows = [
        str(m)
        for m in range(2, 2 * config.window_size + 1)
        if _axis_problem(replace(config, window_size=m), pixels) is None
    ]
    hint = f"image size {sizes}" if sizes else "another patch_size"
    return f"{hint} (or window_size {', '.join(windows)})" if windows else hint
