"""timm's own Swin, with our weights in every tensor: the reference for parity."""

from __future__ import annotations

from typing import Any

from torch import nn

from cpu_torchvision import import_torchvision
from swin_deploy.network.model.swin import SwinTransformer
from swin_deploy.network.swin import SwinConfig


def import_timm() -> Any:
    """Import timm beside a CPU build of torch, which its own import of torchvision cannot do."""
    import_torchvision()
    import timm
    import timm.models.swin_transformer

    return timm


def build_timm(config: SwinConfig, model: SwinTransformer) -> nn.Module:
    """Timm's network of the same architecture, holding the weights of ``model``."""
    timm = import_timm()
    network = timm.models.swin_transformer.SwinTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=config.in_channels,
        num_classes=config.num_classes,
        embed_dim=config.embed_dim,
        depths=config.depths,
        num_heads=config.num_heads,
        window_size=config.window_size,
        mlp_ratio=config.mlp_ratio,
        qkv_bias=config.qkv_bias,
    )
    network.load_state_dict(
        {parameter_name(name): value for name, value in model.named_parameters()}, strict=True
    )
    return network.eval()  # type: ignore[no-any-return]


def parameter_name(name: str) -> str:
    """Timm moves each merge to the stage after it, and puts the head one level down."""
    parts = name.replace("head.", "head.fc.").split(".")
    if "downsample" in parts:
        parts[1] = str(int(parts[1]) + 1)
    return ".".join(parts)
