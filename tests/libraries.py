"""Randomly initialised models of the libraries that checkpoints come from, and their layouts."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from timm_models import import_timm

TIMM = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_b_384": "swin_base_patch4_window12_384",
    "swin_l": "swin_large_patch4_window7_224",
    "swin_l_384": "swin_large_patch4_window12_384",
}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every tensor, biases and tables too: zeros would hide errors."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1 and "table" not in name:
            noise *= parameter[0].numel() ** -0.5
        elif parameter.ndim == 1:
            noise = 0.1 * noise + float("norm" in name and name.endswith("weight"))
        parameter.data.copy_(noise)
    return model.eval()


def timm_model(variant: str, classes: int = 1000) -> nn.Module:
    model = import_timm().create_model(TIMM[variant], num_classes=classes)
    return randomise(model)


def torchvision_model(variant: str, classes: int = 1000) -> nn.Module:
    import_timm()  # brings torchvision in beside a CPU build of torch
    import torchvision

    return randomise(getattr(torchvision.models, variant)(weights=None, num_classes=classes))


def hugging_face_model(variant: str, classes: int = 1000) -> nn.Module:
    import_timm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import SwinConfig, SwinForImageClassification

        sizes: dict[str, dict[str, Any]] = {
            "swin_t": {},
            "swin_s": {"depths": [2, 2, 18, 2]},
            "swin_b": {"depths": [2, 2, 18, 2], "embed_dim": 128, "num_heads": [4, 8, 16, 32]},
        }
        config = SwinConfig(num_labels=classes, **sizes[variant])
        return randomise(SwinForImageClassification(config))


def authors_layout(model: nn.Module) -> dict[str, Tensor]:
    """A timm model's tensors as the authors' repository saves them, buffers included.

    There each merge belongs to the stage before it, the head is flat, and the position index of
    every block and the mask of every shifted one are saved.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        parts = name.replace("head.fc.", "head.").split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        tensors[".".join(parts)] = value
    for stage, layer in enumerate(model.layers):
        for index, block in enumerate(layer.blocks):
            stem = f"layers.{stage}.blocks.{index}"
            tensors[f"{stem}.attn.relative_position_index"] = block.attn.relative_position_index
            if block.attn_mask is not None:
                tensors[f"{stem}.attn_mask"] = block.attn_mask
    return tensors
