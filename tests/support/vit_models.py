"""The libraries' own Vision Transformers, small and large, with random numbers in every tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from libraries import randomise
from swin_deploy.network.vit import VitConfig
from timm_models import import_timm

TIMM = {
    "vit_t_16": "vit_tiny_patch16_224",
    "vit_s_16": "vit_small_patch16_224",
    "vit_b_16": "vit_base_patch16_224",
}


def filled(model: nn.Module) -> nn.Module:
    """As ``randomise``, with positions and class token as large as the tokens they are added to."""
    randomise(model)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in ("pos_embed", "pos_embedding", "cls_token", "class_token"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def timm_vit(config: VitConfig, **changes: Any) -> nn.Module:
    """Timm's network of the architecture, through its class; ``changes`` go to that."""
    timm = import_timm()
    arguments = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_ratio,
    }
    return filled(timm.models.vision_transformer.VisionTransformer(**{**arguments, **changes}))


def timm_released(name: str, classes: int) -> nn.Module:
    """Timm's network of the name that its weights are published under."""
    return filled(import_timm().create_model(name, num_classes=classes))


def torchvision_vit(config: VitConfig, **changes: Any) -> nn.Module:
    """Torchvision's network of the architecture, through its class; ``changes`` go to that."""
    import_timm()  # brings torchvision in beside a CPU build of torch
    from torchvision.models.vision_transformer import VisionTransformer

    return filled(
        VisionTransformer(
            image_size=config.image_size[0],
            patch_size=config.patch_size,
            num_layers=config.depth,
            num_heads=config.num_heads,
            hidden_dim=config.embed_dim,
            mlp_dim=int(config.embed_dim * config.mlp_ratio),
            num_classes=config.num_classes,
            **changes,
        )
    )


def older_torchvision(model: nn.Module) -> dict[str, Tensor]:
    """The layout of torchvision before its 0.13: the MLP's layers by name."""
    return {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for name, value in model.state_dict().items()
    }
