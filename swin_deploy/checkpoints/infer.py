"""Tensor shapes -> the architecture that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from swin_deploy.architecture import Size, SwinConfig
from swin_deploy.errors import InputError
from swin_deploy.networks import NetworkConfig
from swin_deploy.variants import VARIANTS

_TABLE = "layers.{}.blocks.0.attn.relative_position_bias_table"


def infer_config(tensors: Mapping[str, Tensor], image_size: Size | None) -> SwinConfig:
    """The architecture of a checkpoint in our names.

    Shapes say everything but the image size. That is taken from the variant of the same shapes,
    unless it is given.

    Args:
        tensors: In our names.
        image_size: Overrides the variant's.

    Raises:
        InputError: A tensor that tells the architecture is missing or has an odd shape, or the
            image size is neither given nor known.
    """
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        embed_dim, in_channels, patch_size, _ = shapes["patch_embed.proj.weight"]
        depths = _count_blocks(shapes)
        tables = [shapes[_TABLE.format(stage)] for stage in range(len(depths))]
        config = SwinConfig(
            name="checkpoint",
            image_size=image_size or (1, 1),
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=tuple(heads for _, heads in tables),
            window_size=max(_window_of(rows) for rows, _ in tables),
            mlp_ratio=shapes["layers.0.blocks.0.mlp.fc1.weight"][0] / embed_dim,
            qkv_bias="layers.0.blocks.0.attn.qkv.bias" in shapes,
            num_classes=shapes["head.weight"][0],
        )
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}, so it is no whole Swin") from error
    except ValueError as error:
        raise InputError(f"the checkpoint has a tensor of another rank: {error}") from error
    return _with_size_of_variant(config, image_size)


def _count_blocks(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    last: dict[int, int] = {}
    for name in shapes:
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "blocks":
            stage, block = int(parts[1]), int(parts[3])
            last[stage] = max(last.get(stage, 0), block + 1)
    if not last or sorted(last) != list(range(len(last))):
        raise InputError(f"the checkpoint has blocks in stages {sorted(last)} only")
    return tuple(last[stage] for stage in sorted(last))


def _window_of(rows: int) -> int:
    """Side of the window whose position bias table has (2 m - 1)^2 rows."""
    side = math.isqrt(rows)
    if side * side != rows or side % 2 == 0:
        raise InputError(f"a position bias table of {rows} rows belongs to no square window")
    return (side + 1) // 2


def _with_size_of_variant(config: SwinConfig, image_size: Size | None) -> SwinConfig:
    known = similar_variant(config)
    if image_size is not None:
        return replace(config, name=known or "custom")
    if known is None:
        raise InputError(
            "the checkpoint fits no known variant, and checkpoints do not say their image size",
            "--image SIZE",
        )
    return replace(config, name=known, image_size=VARIANTS[known].config.image_size)


def similar_variant(config: NetworkConfig) -> str | None:
    """The variant that differs in nothing but the image size and the classes, if there is one."""
    for name, variant in VARIANTS.items():
        theirs = replace(
            variant.config,
            name=config.name,
            image_size=config.image_size,
            num_classes=config.num_classes,
        )
        if theirs == config:
            return name
    return None
