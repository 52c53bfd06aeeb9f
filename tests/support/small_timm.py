"""A small Swin of timm, made by timm, with numbers in every tensor."""

from __future__ import annotations

from typing import Any

from torch import nn

from libraries import randomise
from timm_models import import_timm

SMALL: dict[str, Any] = {
    "img_size": (64, 64),
    "embed_dim": 16,
    "depths": (2, 2, 2),
    "num_heads": (1, 2, 4),
    "window_size": 4,
}


def small_timm(seed: int = 0, **arguments: Any) -> nn.Module:
    """Timm's ``SwinTransformer`` of ``SMALL``, three classes, in evaluation mode."""
    network = import_timm().models.swin_transformer.SwinTransformer
    return randomise(network(**SMALL | {"num_classes": 3} | arguments), seed)
