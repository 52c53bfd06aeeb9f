"""The eager network of a run, from the weights that the run keeps or from its seed."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from swin_deploy.foreign import reading
from swin_deploy.model.build import Network, build_model, model_from_tensors
from swin_deploy.networks import NetworkConfig


def load_model(config: NetworkConfig, weights: Path | None, seed: int) -> Network:
    """The eager network in eval mode.

    Args:
        config: The architecture.
        weights: A safetensors file of every parameter in our names; None for random weights.
        seed: Of the random weights.

    Raises:
        ConfigError: The image size fits no grid.
        InputError: The file is damaged.
    """
    if weights is None:
        return build_model(config, seed)
    with reading(weights, "a complete safetensors file", "export again"):
        tensors = load_file(weights)
    return model_from_tensors(config, tensors)
