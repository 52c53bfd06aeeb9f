"""From a config and a seed, or a run's weights, to an eager model; and what it is asked for."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors.torch import load
from torch import Tensor, nn

from swin_deploy.core.errors import ConfigError, InputError, ResourceError
from swin_deploy.core.files import Recorded, read_bytes
from swin_deploy.core.records import reading
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.interface import EMBEDDING, LOGITS, NO_EMBEDDING, Outputs
from swin_deploy.network.model.swin import SwinTransformer
from swin_deploy.network.model.vit import VisionTransformer
from swin_deploy.network.vit import VitConfig

Network = SwinTransformer | VisionTransformer

MOST_BYTES = (1 << 31) - 1  # of an ONNX file; the largest network that is published has 788 MB


def make_network(config: NetworkConfig) -> Network:
    """The eager network of any kind, in train mode, with whatever weights PyTorch gives it."""
    return VisionTransformer(config) if isinstance(config, VitConfig) else SwinTransformer(config)


def build_model(config: NetworkConfig, seed: int = 0) -> Network:
    """The eager network in eval mode, with seeded random weights in every tensor.

    Args:
        config: The architecture.
        seed: Same seed, same weights, in any process and on any machine with the same torch.
    """
    model = make_network(config)
    randomise_(model, seed)
    return model.eval().requires_grad_(False)


def model_from_tensors(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> Network:
    """The eager network in eval mode, holding ``tensors`` themselves, not copies.

    Args:
        config: The architecture.
        tensors: Every parameter, by our names, float32.

    Raises:
        ConfigError: The image size fits no grid.
        InputError: The tensors are not exactly the parameters of that network; names them.
    """
    model = make_network(config)
    if problems := [problem for kind in find_misfits(model, tensors) for problem in kind]:
        more = f" and {len(problems) - 1} more" if problems[1:] else ""
        raise InputError(f"the weights do not fit {config.name}: {problems[0]}{more}")
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def find_misfits(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Which tensors are missing or too many, and which are of another shape or type.

    Args:
        model: Its parameters may be without memory.
        tensors: By our names.
    """
    wanted = dict(model.named_parameters())
    names = [f"{name} is missing" for name in wanted if name not in tensors]
    names += [f"{name} is too many" for name in sorted(tensors.keys() - wanted.keys())]
    there = [(name, tensors[name], value) for name, value in wanted.items() if name in tensors]
    shapes = [
        f"{name} is {tuple(found.shape)}, expected {tuple(value.shape)}"
        for name, found, value in there
        if found.shape != value.shape
    ]
    shapes += [
        f"{name} is {found.dtype}, expected {torch.float32}"
        for name, found, _ in there
        if found.dtype != torch.float32
    ]
    return names, shapes


def randomise_(model: nn.Module, seed: int) -> None:
    """Fill every parameter with seeded noise of the size that trained ones have.

    Nothing is left at zero or one: a forgotten bias, mask or scale has to show in the outputs.
    Weights keep the variance of their input (1 / fan-in), so that attention logits have unit
    spread and no stage fades or blows up. A tensor's values depend on its name and the seed only.
    """
    for name, parameter in model.named_parameters():
        # One 32-bit number from both: the generator ignores the upper half of a longer seed.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("relative_position_bias_table", "pos_embed", "cls_token")):
            value = noise
        elif name.endswith("logit_scale"):
            value = math.log(10) + 0.5 * noise  # where its training starts
        elif parameter.ndim > 1:
            value = noise * parameter[0].numel() ** -0.5
        elif "norm" in name and name.endswith("weight"):
            value = 1 + 0.1 * noise
        else:
            value = 0.1 * noise
        parameter.data.copy_(value)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in the model; position bias tables count, indices and masks do not."""
    return sum(parameter.numel() for parameter in model.parameters())


def require_fits_onnx(config: NetworkConfig) -> None:
    """Check, without any memory for them, that the parameters fit into an ONNX file."""
    with torch.device("meta"):
        size = 4 * count_parameters(make_network(config))
    if size > MOST_BYTES:
        raise ResourceError(
            f"the parameters of {config.name} have {size} bytes, an ONNX file at most {MOST_BYTES}",
            "a smaller network",
        )


def load_model(config: NetworkConfig, weights: Path | Recorded | None, seed: int) -> Network:
    """The eager network in eval mode.

    Args:
        config: The architecture.
        weights: A safetensors file of every parameter in our names; None for random weights.
        seed: Of the random weights.
    """
    if weights is None:
        return build_model(config, seed)
    content = read_bytes(weights)
    where = weights.path if isinstance(weights, Recorded) else weights
    with reading(where, "a complete safetensors file", "export again"):
        tensors = load(content)
    try:
        return model_from_tensors(config, tensors)
    except InputError as error:
        raise InputError(f"{where}: {error.problem}", "export again") from error


class Backbone(Protocol):
    """A network of stages, in any form: eager or frozen."""

    layers: nn.ModuleList

    def stages(self, image: Tensor) -> list[Tensor]:
        """The output of every one of ``layers`` before its merge: (b, h, w, c) each."""
        ...


class StageMaps(nn.Module):
    """A network without its final norm and head: the output of every stage, as detectors read it.

    Attributes:
        names: Of the outputs: "stage1" and so on, the finest grid first.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.names = tuple(f"stage{number + 1}" for number in range(len(backbone.layers)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(b, channels, H, W) -> (b, c, h, w) per stage, each contiguous."""
        maps = self.backbone.stages(image)
        return tuple(x.permute(0, 3, 1, 2).contiguous() for x in maps)


class Pooled(Protocol):
    """A network with a norm behind its last stage, in any form."""

    def embedding(self, image: Tensor) -> Tensor:
        """What its head reads: (b, c)."""
        ...


class Embedding(nn.Module):
    """A network without its head: what a head would read, as searches compare it.

    Attributes:
        names: Of the output.
    """

    names = (str(EMBEDDING),)

    def __init__(self, backbone: Pooled) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        """(b, channels, H, W) -> (b, c)."""
        return self.backbone.embedding(image)


def with_outputs(network: nn.Module, outputs: Outputs, name: str) -> nn.Module:
    """``network`` as the module that gives these outputs, in eval mode; it shares all weights.

    Args:
        network: Eager or frozen; gives logits.
        outputs: What to give.
        name: Of the network, for the error.
    """
    if outputs == LOGITS:
        return network
    if outputs == EMBEDDING:
        if not hasattr(network, "norm"):
            raise ConfigError(f"{name} {NO_EMBEDDING}", "--outputs stages")
        return Embedding(cast(Pooled, network)).eval()
    if not hasattr(network, "stages"):
        raise ConfigError(f"{name} has no stages whose maps it could give", "--outputs logits")
    return StageMaps(cast(Backbone, network)).eval()


def output_names(network: nn.Module) -> tuple[str, ...]:
    """What the outputs of a module from ``with_outputs`` are called, in their order."""
    return network.names if isinstance(network, StageMaps | Embedding) else (LOGITS,)
