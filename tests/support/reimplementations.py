"""Networks of berniwal and csm-kr with random numbers in every tensor, for a config of ours."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

import berniwal
from berniwal import Berniwal, edge_mask
from csm_kr import CsmKr
from libraries import build
from swin_deploy.network.swin import SwinConfig


def make_berniwal(config: SwinConfig, **switches: Any) -> nn.Module:
    """With positions that matter, and the masks that its constructor makes."""
    sizes = (config.embed_dim, config.depths, config.num_heads)
    model = build(Berniwal, *sizes, config.window_size, config.num_classes, **switches)
    for module in model.modules():
        if isinstance(module, berniwal.Attention):
            module.pos_embedding.mul_(math.sqrt(len(module.pos_embedding)))  # of unit spread
            if module.shifted:
                module.upper_lower_mask.copy_(edge_mask(module.window, 0))
                module.left_right_mask.copy_(edge_mask(module.window, 1))
    return model


def make_csm_kr(config: SwinConfig) -> nn.Module:
    sizes = (config.image_size[0], config.embed_dim, config.depths, config.num_heads)
    return build(CsmKr, *sizes, config.num_classes, early=not config.position_bias)


def training_checkpoint(model: nn.Module) -> dict[str, Any]:
    """What csm-kr's train.py writes of a network in a wrapper for several GPUs."""
    tensors = {f"module.{name}": value for name, value in model.state_dict().items()}
    return {"epoch": 9, "model_state_dict": tensors, "optimizer_state_dict": {"state": {}}}
