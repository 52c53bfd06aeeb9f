"""Rounding to INT8 and back, as the graph does it, with the gradients of straight-through training.

PyTorch's own fake quantisation multiplies by the reciprocal of the scale. QuantizeLinear and
``InsertQdq`` divide by the scale, and a value between two integers then falls to the other side
about once in a million times, which would hide whether anything else is different.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_deploy.graph.int8.scales import LARGEST, round_scale

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
