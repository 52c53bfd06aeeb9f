"""Networks that amplify rounding: how far FP32 itself is from FP64, and what that leaves to ask."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from swin_deploy.data.inputs import InputSet
from swin_deploy.interface import LOGITS, PROBABILITIES, SCORES
from swin_deploy.judge import FLOORS, FLOORS_DB
from swin_deploy.metrics import softmax, sqnr_db
from swin_deploy.pipeline.context import RunContext
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.verify import Comparison

if TYPE_CHECKING:
    from swin_deploy.model.build import Network

# Two FP32 programs that add in another order are about as far from each other as each is from
# FP64. Measured by scripts/measure_rounding.py (9 networks, 3 seeds, both forms): at most 3.3 dB
# further with weights as they are, 6.6 dB with weights doubled or logit scales at their clamp, and
# 11.5 dB with those of the smallest network tripled.
MARGIN_DB = 15.0


def allow_for_rounding(
    context: RunContext, inputs: Sequence[InputSet], comparisons: tuple[Comparison, ...]
) -> tuple[Comparison, ...]:
    """Judge FP32 comparisons that missed the floor again, by what this network can reach.

    A network with saturated attention, or of thousands of tokens, rounds so much that no other
    FP32 program agrees with it to the usual floor. Its own distance to FP64 says how much.

    Args:
        context: With the eager network.
        inputs: What was compared on.
        comparisons: Of the run.
    """
    missed = {c.inputs for c in comparisons if c.precision == "fp32" and c.below_floor}
    if not missed:
        return comparisons
    double = copy.deepcopy(context.eager).double()
    floors: dict[tuple[str, str], float] = {}
    for images in inputs:
        if images.name not in missed:
            continue
        for output, own_db in _own_rounding(context, double, images).items():
            floor = max(FLOORS["amplified"]["fp32"], min(FLOORS_DB["fp32"], own_db - MARGIN_DB))
            floors[images.name, output] = floor
            if floor < FLOORS_DB["fp32"]:
                context.note(
                    f"this network amplifies rounding: in {output} on {images.name} its own "
                    f"FP32 is {own_db:.0f} dB from FP64, so others need {floor:.0f} dB"
                )
    return tuple(
        replace(c, floor_db=floors.get((c.inputs, c.output), c.floor_db))
        if c.precision == "fp32" and c.below_floor
        else c
        for c in comparisons
    )


def _own_rounding(context: RunContext, double: Network, images: InputSet) -> dict[str, float]:
    """SQNR of eager FP32 against eager FP64, by output and landmark, in dB."""
    single = _values(context, context.eager, images.images)
    exact = _values(context, double, images.images.astype(np.float64))
    if LOGITS in exact:
        interface = context.request.interface
        for values in (exact, single):
            every = softmax(values[LOGITS]) if interface.softmax else values[LOGITS]
            if interface.softmax:
                values[PROBABILITIES] = every
            if interface.topk is not None:
                classes = np.argsort(-exact[LOGITS], axis=1)[:, : interface.topk]
                values[SCORES] = np.take_along_axis(every, classes, axis=1)
    return {name: sqnr_db(exact[name], single[name]) for name in exact}


def _values(context: RunContext, network: Network, images: Any) -> dict[str, Any]:
    values = TorchRunner(context.as_asked(network)).run(images)
    with torch.inference_mode():
        landmarks = network.landmarks(torch.from_numpy(images))
    return values | {name: value.numpy() for name, value in landmarks.items()}
