"""The eager networks against timm's, the same random weights in every tensor of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from conftest import CIFAR, SMALL
from libraries import outputs_of
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model
from timm_models import build_timm

QUICK = {**SMALL, CIFAR.name: CIFAR, "swin_t": VARIANTS["swin_t"]}


@pytest.mark.parametrize("name", QUICK)
def test_logits_and_stages_equal_timms(
    name: str, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    variant = QUICK[name]
    model = build_model(variant.config, seed=1)
    images = torch.from_numpy(noise(variant, 2))
    reference = build_timm(variant.config, model)
    expected, logits = outputs_of(reference, list(reference.layers), images)
    with torch.inference_mode():
        stages = model.stages(images)
    assert len(stages) == len(expected) == len(variant.config.depths)
    for theirs, ours in [*zip(expected, stages, strict=True), (logits, model(images))]:
        assert sqnr_db(theirs.numpy(), ours.detach().numpy()) >= FLOORS_DB["fp32"]


def test_a_network_without_its_position_bias_is_not_timms(
    noise: Callable[[Variant, int], np.ndarray],
) -> None:
    variant = SMALL["pocket"]
    model = build_model(variant.config)
    reference = build_timm(variant.config, model)
    for name, parameter in model.named_parameters():
        if name.endswith("relative_position_bias_table"):
            parameter.data.zero_()
    images = torch.from_numpy(noise(variant, 2))
    with torch.inference_mode():
        found = sqnr_db(reference(images).numpy(), model(images).numpy())
    assert found < FLOORS_DB["fp32"] - 40
