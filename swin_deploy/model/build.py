"""From a config and a seed to an eager model, ready to be read."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from swin_deploy.errors import InputError, ResourceError
from swin_deploy.model.swin import SwinTransformer
from swin_deploy.model.vit import VisionTransformer
from swin_deploy.networks import NetworkConfig
from swin_deploy.vit_architecture import VitConfig

Network = SwinTransformer | VisionTransformer

MOST_BYTES = (1 << 31) - 1  # of an ONNX file; the largest network that is published has 788 MB


def make_network(config: NetworkConfig) -> Network:
    """The eager network of any kind, in train mode, with whatever weights PyTorch gives it.

    Raises:
        ConfigError: The image size fits no grid.
    """
    return VisionTransformer(config) if isinstance(config, VitConfig) else SwinTransformer(config)


def build_model(config: NetworkConfig, seed: int = 0) -> Network:
    """The eager network in eval mode, with seeded random weights in every tensor.

    Args:
        config: The architecture.
        seed: Same seed, same weights, in any process and on any machine with the same torch.

    Raises:
        ConfigError: The image size fits no grid.
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
    """Check, without any memory for them, that the parameters fit into an ONNX file.

    Raises:
        ConfigError: The image size fits no grid.
        ResourceError: They do not.
    """
    with torch.device("meta"):
        size = 4 * count_parameters(make_network(config))
    if size > MOST_BYTES:
        raise ResourceError(
            f"the parameters of {config.name} have {size} bytes, an ONNX file at most {MOST_BYTES}",
            "a smaller network",
        )
