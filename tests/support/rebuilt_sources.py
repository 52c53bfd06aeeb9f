"""Layouts of Microsoft, OpenMMLab and others, rebuilt, as sources of cases."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import rebuilt
from libraries import build
from parity import (
    Source,
    save_as,
)
from swin_deploy.network.swin import SwinConfig


def maker(library: str) -> Callable[[SwinConfig], nn.Module]:
    def make(config: SwinConfig) -> nn.Module:
        return build(
            rebuilt.Swin,
            library,
            config.image_size,
            config.embed_dim,
            config.depths,
            config.num_heads,
            config.window_size,
            config.num_classes,
            version=config.version,
            trained=config.pretrained_window_sizes,
            table=config.position_bias,
        )

    return make


def run(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
    return model(images)  # type: ignore[no-any-return]


def training_checkpoint(model: nn.Module) -> dict[str, Any]:
    """What the authors' training script writes."""
    return {
        "model": model.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "config": argparse.Namespace(lr=1e-3),
        "epoch": 299,
    }


def detector(model: nn.Module) -> dict[str, Any]:
    """What a runner writes of a whole detector."""
    tensors = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    others = {"neck.lateral_convs.0.conv.weight": torch.ones(2, 2, 1, 1)}
    others["roi_head.bbox_head.fc_cls.weight"] = torch.ones(3, 2)
    return {"meta": {"epoch": 12}, "state_dict": {**tensors, **others}}


def classifier(model: nn.Module) -> dict[str, Any]:
    """What mmpretrain's runner writes: the head is beside the backbone."""
    tensors = model.state_dict().items()
    return {"state_dict": {k if k[:5] == "head." else f"backbone.{k}": v for k, v in tensors}}


def source(library: str, dialect: str, save: Any, **more: Any) -> Source:
    return Source(name=library, dialect=dialect, make=maker(library), save=save, run=run, **more)


MICROSOFT = source("microsoft", "Microsoft or timm before 0.9", save_as("pth", training_checkpoint))
