"""The deployed INT8 network as a function of the parameters that are trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from swin_deploy.export_form.choice import FormName
from swin_deploy.export_form.entry import freeze, frozen_tensors
from swin_deploy.graph.int8.recipe import Recipe
from swin_deploy.graph.int8.scales import SMALLEST_SCALE
from swin_deploy.model.build import Network
from swin_deploy.qat.places import Activation, Sites
from swin_deploy.qat.rounding import round_activation, round_bias, round_weight, weight_scale


class RoundedNetwork:
    """Image (b, channels, H, W), float32, normalised -> logits (b, classes), as of the Q/DQ graph.

    Each call brings the network into export form, which autograd can follow, rounds the weights of
    that as ``InsertQdq`` does, and runs it with activations rounded in the same places.

    Args:
        model: The trained network; its parameters may change between calls.
        form: Of its attentions.
        sites: What is rounded.
        scales: Of the activations, by the name that the graph has for them.
        recipe: Of the runtime.

    Attributes:
        watch: Is given what arrives in each place, and says what is to be rounded instead.
    """

    def __init__(
        self,
        model: Network,
        form: FormName,
        sites: Sites,
        scales: Mapping[str, float],
        recipe: Recipe,
    ) -> None:
        self.model, self.form = model, form
        self._weights = {site.module: scales[site.tensor] for site in sites.weights}
        self._smallest = SMALLEST_SCALE[recipe.surrounding]
        self._integer_bias = recipe.integer_bias
        # Where the modules are. Its own weights are never used, nor those of the model hooked.
        self._frozen = freeze(copy.deepcopy(model), form)
        self.watch: Callable[[Activation, Tensor], Tensor] | None = None
        for site in sites.activations:
            module = self._frozen.get_submodule(site.module)
            rounding = partial(self._round, site, scales[site.tensor])
            if site.side == "input":
                module.register_forward_pre_hook(_on_input(rounding))
            else:
                module.register_forward_hook(_on_output(rounding))

    def __call__(self, images: Tensor) -> Tensor:
        tensors = frozen_tensors(self.model, self.form)
        for module, input_scale in self._weights.items():
            name, bias = f"{module}.weight", f"{module}.bias"
            scale = weight_scale(tensors[name], self._smallest)
            tensors[name] = round_weight(tensors[name], scale)
            slabs = tensors[name].ndim == 3  # what they call their bias is that of the logits
            if self._integer_bias and not slabs and bias in tensors:
                tensors[bias] = round_bias(tensors[bias], scale[:, 0] * input_scale)
        logits: Tensor = torch.func.functional_call(self._frozen, tensors, (images,))
        return logits

    def _round(self, site: Activation, scale: float, x: Tensor) -> Tensor:
        return round_activation(x if self.watch is None else self.watch(site, x), scale)


def _on_input(rounding: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *others = inputs
        return rounding(first), *others

    return hook


def _on_output(rounding: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return rounding(output)

    return hook
