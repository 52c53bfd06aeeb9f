"""Randomly initialised models of the libraries that checkpoints come from."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.swin import SwinConfig
from timm_models import import_timm

Stages = list[Tensor]  # the feature map of each, (b, h, w, c)

_TIMM_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every tensor, biases and tables too: zeros would hide errors.

    Logit scales of V2 are spread around 10, where training starts. One is beyond 100, where they
    are clamped, in each block of many heads: large scales amplify rounding, so that with one in
    each block a library's FP32 is only 108 dB from its own FP64; like this it is 125 dB.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        value = parameter.data.normal_(generator=generator)
        if name.endswith("logit_scale"):
            value.mul_(0.5).add_(math.log(10))
            if len(value) >= 12:
                value[-1] = math.log(100) + 1
        elif parameter.ndim > 1 and "table" not in name:
            value.mul_(parameter[0].numel() ** -0.5)
        elif parameter.ndim == 1:
            value.mul_(0.1).add_(float(id(parameter) in norms))
    return model.eval().requires_grad_(False)


class _LeaveParametersAlone(TorchFunctionMode):
    """Skips what constructors do to parameters: ``randomise`` does it again, and faster."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if in_place and args and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def build(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A model with random numbers in every parameter."""
    with _LeaveParametersAlone():
        model = make(*args, **kwargs)
    return randomise(model)


def timm_name(config: SwinConfig) -> str:
    """What timm calls a released variant: swinv2_base_window12to16_192to256 and the like."""
    size, side = _TIMM_SIZES[config.name.split("_")[1]], VARIANTS[config.name].config.image_size[0]
    if config.version == 1:
        return f"swin_{size}_patch4_window{config.window_size}_{side}"
    window = config.name.rsplit("_w", 1)[1]
    return f"swinv2_{size}_window{window}_{'192to' if 'to' in window else ''}{side}"


def timm_model(config: SwinConfig) -> nn.Module:
    create = import_timm().create_model
    name = timm_name(config)
    return build(create, name, num_classes=config.num_classes, img_size=config.image_size)


def torchvision_model(config: SwinConfig) -> nn.Module:
    """Windows of torchvision's V2 are of 8."""
    import_timm()  # brings torchvision in beside a CPU build of torch
    import torchvision

    version, size = config.name.split("_")[:2]
    name = f"{'swin' if version == 'swin' else 'swin_v2'}_{size}"
    return build(getattr(torchvision.models, name), weights=None, num_classes=config.num_classes)


@contextmanager
def transformers() -> Iterator[Any]:
    """The library, without its warnings and progress."""
    import_timm()
    logger = logging.getLogger("transformers")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        logger.setLevel(logging.ERROR)
        transformers.utils.logging.disable_progress_bar()
        try:
            yield transformers
        finally:
            logger.setLevel(level)


def hugging_face_model(config: SwinConfig, backbone: bool = False) -> nn.Module:
    """A model for the native size, whatever the image: it pads."""
    native = VARIANTS[config.name].config
    fields: dict[str, Any] = {
        "image_size": native.image_size[0],
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size,
    }
    if config.version == 2:
        fields["pretrained_window_sizes"] = list(config.pretrained_window_sizes or (0,) * 4)
    if backbone:
        fields["out_features"] = [f"stage{number}" for number in range(1, 5)]
    else:
        fields["num_labels"] = config.num_classes
    family = "Swin" if config.version == 1 else "Swinv2"
    kind = "Backbone" if backbone else "ForImageClassification"
    with transformers() as library:
        described = getattr(library, f"{family}Config")(**fields)
        return build(getattr(library, family + kind), described)


def outputs_of(
    model: nn.Module, stages: list[nn.Module], images: Tensor
) -> tuple[list[Tensor], Any]:
    """What some of its modules give, and what it gives."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [stage.register_forward_hook(keep) for stage in stages]
    with torch.inference_mode():
        output = model(images)
    for handle in handles:
        handle.remove()
    return seen, output
