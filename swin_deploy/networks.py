"""What is asked of a network whatever its kind: the one place that knows all of them as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from swin_deploy.architecture import SwinConfig
from swin_deploy.geometry import stage_geometry
from swin_deploy.vit_architecture import VitConfig, patch_grid

NetworkConfig = SwinConfig | VitConfig
FAMILIES: dict[str, type[NetworkConfig]] = {"swin": SwinConfig, "vit": VitConfig}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A network in the columns of a table.

    Attributes:
        kind: "Swin V1", "Swin V2" or "ViT".
        window: Side of an attention window in tokens, or what attention spans instead.
        channels: Of the first stage.
        depths: Blocks per stage.
        heads: Per stage.
        pretrained_windows: Of Swin V2, where the positions were trained with other windows.
        semantics: What its library does where shapes leave a choice, by name.
    """

    kind: str
    window: str
    channels: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    pretrained_windows: tuple[int, ...] = ()
    semantics: dict[str, Any] = field(default_factory=dict)


def family_of(config: NetworkConfig) -> str:
    """The key of ``FAMILIES`` for a network, as manifests have it."""
    return next(name for name, kind in FAMILIES.items() if type(config) is kind)


def require_size(config: NetworkConfig) -> None:
    """Check that the network takes images of its own size.

    Raises:
        ConfigError: It does not; names the nearest sizes that work.
    """
    if isinstance(config, VitConfig):
        patch_grid(config)
    else:
        stage_geometry(config)


def summarise(config: NetworkConfig) -> Summary:
    """What tables show of a network."""
    if isinstance(config, VitConfig):
        return Summary(
            kind="ViT",
            window="global",
            channels=config.embed_dim,
            depths=(config.depth,),
            heads=(config.num_heads,),
        )
    return Summary(
        kind=f"Swin V{config.version}",
        window=str(config.window_size),
        channels=config.embed_dim,
        depths=config.depths,
        heads=config.num_heads,
        pretrained_windows=config.pretrained_window_sizes,
        semantics=asdict(config.semantics),
    )
