"""Measure the margin of ``swin_deploy.pipeline.gate``: FP32 programs against FP64.

    scripts/measure_rounding.py

Prints a row per network: the SQNR of eager FP32 and of the export form in FP32, both against eager
FP64, and of the two against each other; the worst of stages and logits, and by how many dB the form
is further from eager than eager is from FP64.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from swin_deploy.data.images import make_noise
from swin_deploy.network.catalogue import VARIANTS, NetworkConfig
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import FORMS, freeze
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model
from swin_deploy.pipeline.request import read_config

EXAMPLES = Path(__file__).parent.parent / "examples"
SEEDS = range(3)


def scaled(factor: float) -> Callable[[nn.Module], None]:
    def edit(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.data.mul_(factor)

    return edit


def sharpest(model: nn.Module) -> None:
    """Logit scales at their clamp."""
    for name, parameter in model.named_parameters():
        if name.endswith("logit_scale"):
            parameter.data.fill_(5)


def networks() -> Iterator[tuple[str, NetworkConfig, Callable[[nn.Module], None]]]:
    pocket = VARIANTS["swin_pocket"].config
    cifar = read_config(EXAMPLES / "cifar10_swin.toml").config
    cosine = replace(pocket, version=2)  # type: ignore[type-var]
    for factor in (1.0, 2.0, 3.0):
        yield f"pocket x{factor:.0f}", pocket, scaled(factor)
    for factor in (1.0, 2.0):
        yield f"cifar x{factor:.0f}", cifar, scaled(factor)
    yield "cosine", cosine, scaled(1)
    yield "cosine, sharpest", cosine, sharpest
    yield "swinv2_t_w8", VARIANTS["swinv2_t_w8"].config, scaled(1)
    yield "swinv2_t_w8, sharpest", VARIANTS["swinv2_t_w8"].config, sharpest


def main() -> None:
    print(
        f"{'network':22} {'form':6} {'seed':>4} {'eager-64':>8} {'form-64':>8} "
        f"{'form-eager':>10} {'gap':>5}"
    )
    for name, config, edit in networks():
        for form, seed in itertools.product(FORMS, SEEDS):
            rows = list(measure(config, edit, seed, form))
            worst = [min(row[column] for row in rows) for column in range(3)]
            gap = max(own - form for own, _, form in rows)
            print(
                f"{name:22} {form:6} {seed:4} {worst[0]:8.1f} {worst[1]:8.1f} "
                f"{worst[2]:10.1f} {gap:5.1f}",
                flush=True,
            )


def measure(
    config: NetworkConfig, edit: Callable[[nn.Module], None], seed: int, form: FormName
) -> Iterator[tuple[float, float, float]]:
    """Eager to FP64, form to FP64 and form to eager, in dB: a row per landmark and the logits."""
    eager = build_model(config, seed)
    edit(eager)
    images = torch.from_numpy(make_noise(3, config.in_channels, config.image_size).images)
    with torch.inference_mode():
        single, frozen = values(eager, images), values(freeze(eager, form), images)
        exact = values(copy.deepcopy(eager).double(), images.double())
    for name in exact:
        reference = exact[name].numpy()
        yield (
            sqnr_db(reference, single[name].numpy()),
            sqnr_db(reference, frozen[name].numpy()),
            sqnr_db(single[name].numpy(), frozen[name].numpy()),
        )


def values(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    return network.landmarks(images) | {"logits": network(images)}  # type: ignore[operator]


if __name__ == "__main__":
    main()
