"""A Vision Transformer as plain data: the baseline that every Swin is compared with.

Nothing here needs torch: a wrong size is refused before anything heavy is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from swin_deploy.core.errors import ConfigError
from swin_deploy.network.interface import Size, require_architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """The architecture of a Vision Transformer classifier (Dosovitskiy et al. 2021).

    A class token before the patches, learned positions, blocks with the norm before attention and
    MLP, LayerNorms with epsilon 1e-6, exact GELU, the head on the class token. The defaults are
    ViT-B/16.

    Attributes:
        name: Names the run folder; not part of the arithmetic.
        image_size: (height, width) of the input, in pixels; the network has a position for each of
            its patches, so weights fit one size only.
        patch_size: Side of a patch, in pixels.
        in_channels: Channels of the image.
        embed_dim: Channels of every token.
        depth: Blocks.
        num_heads: Attention heads per block.
        mlp_ratio: Hidden channels of the MLP over its input channels.
        num_classes: Width of the head.

    Raises:
        ConfigError: A value is impossible by itself or beside the others.
    """

    name: str
    image_size: Size = (224, 224)
    patch_size: int = 16
    in_channels: int = 3
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    num_classes: int = 1000

    def __post_init__(self) -> None:
        sizes = ("patch_size", "in_channels", "embed_dim", "depth", "num_heads", "num_classes")
        require_architecture(self, sizes)
        if min(self.image_size) < 1:
            raise ConfigError(f"image_size = {list(self.image_size)} needs values of at least 1")
        if not math.isfinite(self.mlp_ratio) or self.embed_dim * self.mlp_ratio < 1:
            raise ConfigError(f"mlp_ratio = {self.mlp_ratio} leaves the MLP without channels")
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"num_heads = {self.num_heads} does not divide the {self.embed_dim} channels"
            )

    @property
    def tokens(self) -> int:
        """Tokens per image: the class token and one per patch."""
        rows, columns = patch_grid(self)
        return 1 + rows * columns


def patch_grid(config: VitConfig) -> Size:
    """(rows, columns) of patches."""
    side = config.patch_size
    for axis, pixels in zip(("height", "width"), config.image_size, strict=True):
        if pixels % side:
            below, above = pixels // side * side, (pixels // side + 1) * side
            raise ConfigError(
                f"{config.name}: image {axis} {pixels} does not work: it is not a multiple of the "
                f"patch size {side}",
                f"image size {below} or {above}" if below else f"image size {above}",
            )
    rows, columns = (pixels // side for pixels in config.image_size)
    return rows, columns
