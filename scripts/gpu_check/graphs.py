"""The graphs that are checked: our form and a plain export, FP32 and FP16, static and dynamic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion.naive import holding_ours
from swin_deploy.architecture import SwinConfig
from swin_deploy.batches import BatchRange
from swin_deploy.data.inputs import make_noise_for
from swin_deploy.data.pixels import FP32_INPUT, ImageInput
from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.export_form.choice import choose_form
from swin_deploy.export_form.entry import freeze
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.plain import export_plainly
from swin_deploy.metrics import FloatArray
from swin_deploy.model.build import build_model
from swin_deploy.networks import NetworkConfig
from swin_deploy.precisions import Precision

HALF_INPUT = ImageInput("fp16")  # what a network takes after ``.half()``


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX file.

    Attributes:
        path: Of the file.
        form: "ours" or "naive".
        precision: FP32 or FP16.
        batch: The batch sizes that it takes.
        image_input: What its input is.
    """

    path: Path
    form: str
    precision: Precision
    batch: BatchRange
    image_input: ImageInput

    def __str__(self) -> str:
        return f"{self.form} {self.precision} batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Images and what eager PyTorch makes of them in FP32 on the CPU.

    Attributes:
        eager: The network, with seeded random weights.
        images: (b, channels, H, W) float32, each exact in float16.
        logits: (b, classes) float32.
    """

    eager: nn.Module
    images: FloatArray
    logits: FloatArray


def make_reference(config: NetworkConfig, count: int) -> tuple[str, dict[str, Any], Reference]:
    """The eager network and its answers."""
    eager = build_model(config)
    noise = make_noise_for(HALF_INPUT, count, config.in_channels, config.image_size)
    with torch.inference_mode():
        logits = eager(torch.from_numpy(noise.images)).numpy()
    says = f"{config.name}, random weights, {noise.name}: eager PyTorch FP32 on the CPU"
    return says, {}, Reference(eager, noise.images, np.asarray(logits))


def _timm(config: NetworkConfig, eager: nn.Module) -> nn.Module:
    if not isinstance(config, SwinConfig):
        raise EnvironmentMissingError(
            f"{config.name} is no Swin, which the plain export is made of"
        )
    return holding_ours(config, eager)


def write_graph(
    reference: Reference,
    config: NetworkConfig,
    form: str,
    precision: Precision,
    batch: BatchRange,
    folder: Path,
) -> tuple[str, dict[str, Any], Graph]:
    """Export one graph: ours as for TensorRT, or timm's with the same weights by PyTorch alone.

    Raises:
        ImportError: There is no timm.
        EnvironmentMissingError: It has no such network.
        InputError: It cannot be exported.
    """
    name = f"{form}-{precision}-{batch}".replace(":", "-")
    path = folder / f"{name}.onnx"
    image_input = FP32_INPUT
    if form == "ours":
        frozen = freeze(reference.eager, choose_form({"tensorrt"}, batch.static))
        export_graph(frozen, config, batch, path)
        if precision == "fp16":
            convert_to_half(path, path, "fp16")
    else:
        plain = _timm(config, reference.eager)
        if precision == "fp16":
            plain, image_input = plain.half(), HALF_INPUT
        export_plainly(plain, config, batch, path)
    graph = Graph(path, form, precision, batch, image_input)
    return f"{path.stat().st_size / 1e6:.1f} MB", {}, graph
