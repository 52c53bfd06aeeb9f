"""The deployed INT8 network as a function of the trained parameters: places and rounding.

PyTorch's own fake quantisation multiplies by the reciprocal of the scale. QuantizeLinear and
``InsertQdq`` divide by the scale, and a value between two integers then falls to the other side
about once in a million times, which would hide whether anything else is different.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from swin_deploy.core.errors import present
from swin_deploy.graph.int8.places import (
    Attention,
    Recipe,
    choose_places,
    find_places,
    module_of,
)
from swin_deploy.graph.int8.quantize import before_transpose, result_readers
from swin_deploy.graph.int8.thresholds import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze, frozen_tensors
from swin_deploy.network.model.build import Network


@dataclass(frozen=True, slots=True)
class Activation:
    """Something that is rounded with a fixed scale.

    Attributes:
        module: Path of a module of the frozen network.
        side: Whether what goes into it, or what comes out.
        tensor: What the graph calls it, by which its scale is known.
    """

    module: str
    side: Literal["input", "output"]
    tensor: str


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight, and the bias after it.

    Attributes:
        module: Whose ``weight`` and ``bias`` they are.
        tensor: What the graph calls the other factor.
    """

    module: str
    tensor: str


@dataclass(frozen=True, slots=True)
class Sites:
    """All that is rounded."""

    activations: tuple[Activation, ...]
    weights: tuple[Weight, ...]


def find_sites(graph: Path, recipe: Recipe, batch: int, keep: tuple[str, ...]) -> Sites:
    """The places that ``quantize_graph`` quantises, for the same arguments.

    Args:
        graph: Exported from the frozen network, whose modules name its nodes.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: As of ``choose_places``.
    """
    placement = choose_places(find_places(ir.load(graph).graph), recipe, batch, keep)
    found = [one for attention in placement.attentions for one in _of_attention(attention)]
    products = [(module_of(g.node), _name(g.node.inputs[0])) for g in placement.gemms]
    found += [Activation(module, "input", tensor) for module, tensor in products]
    return Sites(tuple(dict.fromkeys(found)), tuple(Weight(*product) for product in products))


def _of_attention(attention: Attention) -> Iterator[Activation]:
    def at(place: str, value: ir.Value | None) -> Activation:
        return Activation(f"{attention.name}.at_{place}", "output", _name(value))

    if attention.slabs is not None:
        yield at("slabs", attention.slabs)
    else:
        key, index = before_transpose(attention.logits, 1)
        yield at("query", attention.logits.inputs[0])
        yield at("key", key.inputs[index])
        yield at("value", attention.mix.inputs[1])
    yield at("weights", attention.mix.inputs[0])
    for node, index in result_readers(attention):
        yield Activation(module_of(node), "input", _name(node.inputs[index]))


def _name(value: ir.Value | None) -> str:
    return str(present(value).name)


_LOWEST = -LARGEST - 1  # of activations: QuantizeLinear cuts them off where INT8 ends
_LIMIT = 2**31 - 1


class _Round(torch.autograd.Function):
    """To a gradient it is the identity, and zero where the value is cut off.

    Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons"; Jacob et
    al. 2018, "Quantization and training of neural networks for integer-arithmetic-only inference".
    """

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, lowest: int) -> Tensor:
        steps = (x / scale).round_()
        context.save_for_backward((steps >= lowest) & (steps <= LARGEST))
        return steps.clamp_(lowest, LARGEST).mul_(scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = context.saved_tensors
        return gradients[0] * inside, None, None


def round_activation(x: Tensor, scale: float) -> Tensor:
    """To the nearest multiple of ``scale`` from -128 to 127 times it."""
    result: Tensor = _Round.apply(x, torch.tensor(scale), _LOWEST)  # type: ignore[no-untyped-call]
    return result


def round_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """To the nearest multiples of ``weight_scale``, from -127 to 127 times it."""
    result: Tensor = _Round.apply(weight, scale, -LARGEST)  # type: ignore[no-untyped-call]
    return result


def weight_scale(weight: Tensor, smallest: float) -> Tensor:
    """Of the slabs (3, c in, c out) one, (1, 1, 1); of a layer (c out, c in) one a row, (c out, 1).

    Args:
        weight: Of a product.
        smallest: Of ``SMALLEST_SCALE``.
    """
    axes = (0, 1, 2) if weight.ndim == 3 else (1,)
    peaks = weight.detach().abs().amax(dim=axes, keepdim=True)
    with np.errstate(over="ignore"):  # a training that diverges: its loss will be NaN, and says so
        return torch.from_numpy(round_scale(peaks.numpy() / LARGEST, smallest))


def round_bias(bias: Tensor, steps: Tensor) -> Tensor:
    """To 32-bit integers times ``steps``, the scales of weight and activation: (c out,) each."""
    with torch.no_grad():
        whole = (bias.double() / steps).round().clamp(-_LIMIT, _LIMIT).float()
        moved = whole * steps - bias
    return bias + moved


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
