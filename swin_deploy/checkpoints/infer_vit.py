"""Tensor shapes -> the Vision Transformer that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace

from torch import Tensor

from swin_deploy.errors import InputError
from swin_deploy.networks import NetworkConfig
from swin_deploy.preprocessing import Size
from swin_deploy.variants import VARIANTS
from swin_deploy.vit_architecture import VitConfig

# Heads by (channels, blocks): tiny, small, base, large and huge of timm's vision_transformer.py.
RELEASED_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16}


def infer_vit(
    tensors: Mapping[str, Tensor], image_size: Size | None, wanted: NetworkConfig | None
) -> VitConfig:
    """The architecture of a checkpoint in our names.

    The image size is that of the positions. Heads are in no shape: they are those of the released
    network of the same channels and blocks.

    Args:
        tensors: In our names.
        image_size: What the user asks for; has to be that of the positions.
        wanted: The network that the user named.

    Raises:
        InputError: A tensor that tells the architecture is missing or has an odd shape, the
            positions are for another size, no released network has these channels and blocks, or
            it is another network than ``wanted``.
    """
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        channels, in_channels, patch_size, _ = shapes["patch_embed.proj.weight"]
        _, positions, _ = shapes["pos_embed"]
        depth = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
        config = VitConfig(
            name="custom",
            image_size=_size_of(positions, patch_size, image_size),
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=channels,
            depth=depth,
            num_heads=_heads_of(channels, depth),
            mlp_ratio=shapes["blocks.0.mlp.fc1.weight"][0] / channels,
            num_classes=shapes["head.weight"][0],
        )
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}, so it is no whole ViT") from error
    except ValueError as error:
        raise InputError(f"the checkpoint has a tensor of another rank: {error}") from error
    if wanted is not None:
        _require_same(config, wanted)
        return replace(config, name=wanted.name)
    return replace(config, name=_similar_variant(config) or config.name)


def _similar_variant(config: VitConfig) -> str | None:
    """The variant that differs in nothing but the image size and the classes, if there is one."""
    for name, variant in VARIANTS.items():
        theirs = variant.config
        if isinstance(theirs, VitConfig) and config == replace(
            theirs,
            name=config.name,
            image_size=config.image_size,
            num_classes=config.num_classes,
        ):
            return name
    return None


def _require_same(found: VitConfig, wanted: NetworkConfig) -> None:
    if not isinstance(wanted, VitConfig):
        differences = ["the parts of a ViT"]
    else:
        differences = [
            f"{field.name} {getattr(found, field.name)}, not {getattr(wanted, field.name)}"
            for field in fields(found)
            if field.name not in ("name", "image_size", "num_classes")
            and getattr(found, field.name) != getattr(wanted, field.name)
        ]
    if differences:
        known = _similar_variant(found)
        raise InputError(
            f"the checkpoint is no {wanted.name}: it has {'; '.join(differences)}",
            f"--variant {known}" if known else "no --variant, to take what the checkpoint says",
        )


def _size_of(positions: int, patch_size: int, wanted: Size | None) -> Size:
    """The image size of a table of ``positions`` rows: the class token and a square of patches."""
    side = math.isqrt(max(0, positions - 1))
    if side < 1 or side * side + 1 != positions:
        raise InputError(
            f"pos_embed has {positions} rows, which are no class token and square of patches: "
            "such a ViT is not supported so far"
        )
    pixels = side * patch_size
    if wanted is not None and wanted != (pixels, pixels):
        size = f"{wanted[0]}x{wanted[1]}"
        raise InputError(
            f"the checkpoint has positions for {side}x{side} patches of {patch_size}, so for "
            f"images of {pixels}x{pixels}, not {size}: positions are not interpolated",
            f"--image {pixels}, or weights that were fine-tuned at {size}",
        )
    return pixels, pixels


def _heads_of(channels: int, depth: int) -> int:
    if (channels, depth) not in RELEASED_HEADS:
        known = ", ".join(f"{c} channels with {d} blocks" for c, d in RELEASED_HEADS)
        raise InputError(
            f"the checkpoint is a ViT of {channels} channels with {depth} blocks, and no file says "
            "how many heads a ViT has",
            f"one of {known}",
        )
    return RELEASED_HEADS[channels, depth]
