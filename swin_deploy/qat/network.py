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
from swin_deploy.graph.int8.scales import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.model.build import Network
from swin_deploy.qat.places import Sites

_LOWEST = -LARGEST - 1  # of activations: QuantizeLinear cuts them off where INT8 ends
_LIMIT = 2**31 - 1


class RoundedNetwork:
    """Image (b, channels, H, W), float32, normalised -> logits (b, classes), as of the Q/DQ graph.

    Each call brings the network into export form, which autograd can follow, rounds the weights of
    that as ``InsertQdq`` does, and runs it with activations rounded in the same places. To
    gradients the rounding is the identity, and zero beyond the range that a scale covers (Bengio
    et al. 2013; Jacob et al. 2018).

    Args:
        model: The trained network; its parameters may change between calls.
        form: Of its attentions.
        sites: What is rounded.
        scales: Of the activations, by the name that the graph has for them.
        recipe: Of the runtime.
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
        for site in sites.activations:
            module = self._frozen.get_submodule(site.module)
            rounding = partial(round_activation, scale=scales[site.tensor])
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
                tensors[bias] = round_bias(tensors[bias], scale * input_scale)
        logits: Tensor = torch.func.functional_call(self._frozen, tensors, (images,))
        return logits


def round_activation(x: Tensor, scale: float) -> Tensor:
    """To the nearest multiple of ``scale`` from -128 to 127 times it."""
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, _LOWEST, LARGEST)


def weight_scale(weight: Tensor, smallest: float) -> Tensor:
    """Of a slab (3, c in, c out) one, (1,); of a linear layer (c out, c in) one a row, (c out,)."""
    magnitudes = weight.detach().abs()
    peaks = magnitudes.amax().view(1) if weight.ndim == 3 else magnitudes.amax(dim=1)
    return torch.from_numpy(round_scale(peaks.numpy() / LARGEST, smallest))


def round_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """To the nearest multiples of ``weight_scale``."""
    if weight.ndim == 3:
        return torch.fake_quantize_per_tensor_affine(weight, float(scale), 0, -LARGEST, LARGEST)
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST, LARGEST)


def round_bias(bias: Tensor, steps: Tensor) -> Tensor:
    """To 32-bit integers, times the scales of weight and activation: (c out,) each."""
    with torch.no_grad():
        whole = (bias.double() / steps).round().clamp(-_LIMIT, _LIMIT).float()
        moved = whole * steps - bias
    return bias + moved


def _on_input(rounding: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *others = inputs
        return rounding(first), *others

    return hook


def _on_output(rounding: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return rounding(output)

    return hook
