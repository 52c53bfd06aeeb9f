"""timm's own Swin, with our weights in every tensor: the reference for parity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from swin_deploy.network.model.swin import SwinTransformer
from swin_deploy.network.swin import SwinConfig


def import_timm() -> Any:
    """Import timm beside a CPU build of torch.

    timm imports torchvision, whose compiled operators exist for CUDA builds only; their fake
    kernels cannot be registered without them, and models need neither.
    """
    register = torch.library.register_fake

    def skip_torchvision(name: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        if str(name).startswith("torchvision::"):
            return lambda function: function
        return register(name, *args, **kwargs)

    torch.library.register_fake = skip_torchvision
    try:
        import timm
        import timm.models.swin_transformer
    finally:
        torch.library.register_fake = register
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
