"""Eager network of any kind -> its export form."""

from __future__ import annotations

import torch

from swin_deploy.export_form.freeze import FrozenSwin, freeze_swin
from swin_deploy.export_form.vit import FrozenVit
from swin_deploy.model.build import Network
from swin_deploy.model.vit import VisionTransformer

FrozenNetwork = FrozenSwin | FrozenVit


def freeze(model: Network) -> FrozenNetwork:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but the scaled
            projections, so that a large network is not held twice.
    """
    if isinstance(model, VisionTransformer):
        with torch.no_grad():
            return FrozenVit(model).eval().requires_grad_(False)
    return freeze_swin(model)
