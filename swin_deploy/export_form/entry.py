"""Eager network of any kind -> its export form."""

from __future__ import annotations

import torch
from torch import Tensor

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


def frozen_tensors(model: Network, form: FormName) -> dict[str, Tensor]:
    """What ``freeze`` would hold, by name: parameters, and buffers of any dtype.

    Where autograd is on it can follow each from the parameters of ``model``, which is how they are
    trained for what the export form makes of them.

    Args:
        model: Untouched.
        form: As of ``freeze``.
    """
    frozen: FrozenNetwork
    if isinstance(model, VisionTransformer):
        frozen = FrozenVit(model)
    else:
        frozen = FrozenSwin(model, FORMS[form])
    return dict(frozen.named_parameters()) | dict(frozen.named_buffers())
