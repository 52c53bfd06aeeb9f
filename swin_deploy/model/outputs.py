"""What a network is asked for: its logits, or the maps of its stages for a detector to read."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn

from swin_deploy.errors import ConfigError
from swin_deploy.interface import LOGITS, Outputs


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


def with_outputs(network: nn.Module, outputs: Outputs, name: str) -> nn.Module:
    """``network`` as the module that gives these outputs, in eval mode; it shares all weights.

    Args:
        network: Eager or frozen; gives logits.
        outputs: What to give.
        name: Of the network, for the error.

    Raises:
        ConfigError: Stages are asked of a network that has none.
    """
    if outputs == LOGITS:
        return network
    if not hasattr(network, "stages"):
        raise ConfigError(f"{name} has no stages whose maps it could give", "--outputs logits")
    return StageMaps(cast(Backbone, network)).eval()


def output_names(network: nn.Module) -> tuple[str, ...]:
    """What the outputs of a module from ``with_outputs`` are called, in their order."""
    return network.names if isinstance(network, StageMaps) else (LOGITS,)
