"""Whether tensors are those of a trained network: all there, finite, of the right shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from swin_deploy.architecture import SwinConfig
from swin_deploy.checkpoints.dialect import Tensors
from swin_deploy.checkpoints.options import LoadOptions
from swin_deploy.errors import InputError
from swin_deploy.model.build import find_misfits, make_network
from swin_deploy.networks import NetworkConfig

_FLOATS = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
}
_SHOWN = 5  # names in an error, of possibly hundreds


def checked_values(path: Path, tensors: Tensors) -> tuple[Tensors, list[str]]:
    """The tensors in float32, and what was changed for that.

    Raises:
        InputError: One is of no float type, not finite, or all zeros where no trained one is.
    """
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    checked: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise InputError(f"{path}: {name} is {tensor.dtype}, not a float type")
        value = tensor.to(torch.float32).contiguous()
        if bad := int((~torch.isfinite(value)).sum()):
            raise InputError(f"{path}: {name} holds {bad} NaN or infinite values")
        if value.ndim > 1 and not value.any():
            raise InputError(
                f"{path}: {name} is all zeros, as a save that was cut short leaves it",
                "the checkpoint again, from where it came",
            )
        checked[name] = value
    dtypes.pop("float32", None)
    return checked, [f"{count} tensors of {kind} became float32" for kind, count in dtypes.items()]


def require_complete(path: Path, config: NetworkConfig, tensors: Mapping[str, Tensor]) -> None:
    """Check that the tensors are exactly the parameters of the network.

    Raises:
        ConfigError: The network does not take its image size.
        InputError: One is missing, too many, or of another shape.
    """
    with torch.device("meta"):
        problems, misfits = find_misfits(make_network(config), tensors)
    if (
        isinstance(config, SwinConfig)
        and not problems
        and misfits
        and all("position_bias_table" in misfit for misfit in misfits)
    ):
        raise InputError(
            f"{path}: at image {config.image_size[0]}x{config.image_size[1]} some windows are of "
            f"another size than in training: {some(misfits)}",
            f"--window {config.window_size}, to resize the position biases, or the trained --image",
        )
    if problems or misfits:
        raise InputError(f"{path} does not fit {config.name}: {some([*problems, *misfits])}")


def require_stated(path: Path, config: NetworkConfig, options: LoadOptions) -> None:
    """Check that the network is what the user wrote of it; ``--image`` and ``--window`` go before.

    Raises:
        InputError: A field has another value; names both.
    """
    instead = {"image_size": options.image_size, "window_size": options.window}
    for field in options.stated:
        if "." in field or field == "name" or instead.get(field) is not None:
            continue  # what is done to photos is no part of the tensors
        said, found = getattr(options.wanted, field), getattr(config, field)
        if said != found:
            raise InputError(
                f"{path} has {field} = {_plain(found)}, and the config says {_plain(said)}",
                f"{field} = {_plain(found)} in the config, or a checkpoint of {_plain(said)}",
            )


def _plain(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def some(items: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
