"""The eager network of a run, from the weights that the run keeps or from its seed."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load

from swin_deploy.errors import InputError
from swin_deploy.files import Recorded, read_bytes
from swin_deploy.foreign import reading
from swin_deploy.model.build import Network, build_model, model_from_tensors
from swin_deploy.networks import NetworkConfig


def load_model(config: NetworkConfig, weights: Path | Recorded | None, seed: int) -> Network:
    """The eager network in eval mode.

    Args:
        config: The architecture.
        weights: A safetensors file of every parameter in our names; None for random weights.
        seed: Of the random weights.

    Raises:
        ConfigError: The image size fits no grid.
        InputError: The file is damaged, or its tensors are not those of the architecture.
        UnsafeError: It is not the one that was recorded.
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
