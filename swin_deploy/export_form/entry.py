"""Eager network of any kind -> its export form."""

from __future__ import annotations

import torch

from swin_deploy.export_form.choice import FormName
from swin_deploy.export_form.forms import FORMS
from swin_deploy.export_form.freeze import FrozenSwin, freeze_swin
from swin_deploy.export_form.vit import FrozenVit
from swin_deploy.model.build import Network
from swin_deploy.model.vit import VisionTransformer

FrozenNetwork = FrozenSwin | FrozenVit


def freeze(model: Network, form: FormName) -> FrozenNetwork:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but those that its
            attentions change, so that a large network is not held twice.
        form: Of the attentions of a Swin; a Vision Transformer has one form only.
    """
    if isinstance(model, VisionTransformer):
        with torch.no_grad():
            return FrozenVit(model).eval().requires_grad_(False)
    return freeze_swin(model, FORMS[form])
