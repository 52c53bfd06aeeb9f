"""The table of variants, and what is asked of a network of any kind. Plain data."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from swin_deploy.core.errors import ConfigError, nearest
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.swin import SwinConfig, stage_geometry
from swin_deploy.network.vit import VitConfig, patch_grid

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
        parts: What a Swin has beyond its papers', or lacks of them.
    """

    kind: str
    window: str
    channels: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    pretrained_windows: tuple[int, ...] = ()
    semantics: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


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
        window=", ".join(f"{rows}x{columns}" for rows, columns in config.stage_windows)
        or str(config.window_size),
        channels=config.embed_dim,
        depths=config.depths,
        heads=config.num_heads,
        pretrained_windows=config.pretrained_window_sizes,
        semantics=asdict(config.semantics),
        parts=tuple(text for text, there in _unusual_parts(config).items() if there),
    )


def _unusual_parts(config: SwinConfig) -> dict[str, bool]:
    return {
        "no biases of query, key and value": not config.qkv_bias,
        "no position biases": not config.position_bias,
        "GELU by tanh": config.activation == "gelu_tanh",
        "no norm of the patches": not config.patch_norm,
        "no norms in merges": not config.merge_norm,
        "biases in merges": config.merge_bias,
        "the last norm after the mean": config.fc_norm,
        "no head, but the last norm": config.keeps_norm,
        f"a head of {len(config.head_hidden) + 1} layers, {config.head_activation} between": (
            config.head_hidden != ()
        ),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One network that can be deployed.

    Attributes:
        config: The architecture.
        preprocessing: Part of the variant: a network is never run with another's mean and std.
        parameters: The count that its authors publish; None for a config of the user's own.
        rules: The fields of its semantics that the user named, which go before those of the
            library of a checkpoint.
        stated: What else the user wrote, as ``num_classes`` or ``preprocessing.mean``; a checkpoint
            that says otherwise is refused.
    """

    config: NetworkConfig
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parameters: int | None = None
    rules: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        channels = self.config.in_channels
        if channels != len(self.preprocessing.mean):
            raise ConfigError(
                f"in_channels = {channels}, but preprocessing.mean has "
                f"{len(self.preprocessing.mean)} values",
                "a [preprocessing] table with a mean and a std per channel",
            )

    def with_image_size(self, size: Size | None) -> Variant:
        """The same network for another input size; itself for None."""
        return self if size is None else replace(self, config=replace(self.config, image_size=size))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image that the network takes."""
        return (self.config.in_channels, *self.config.image_size)

    @property
    def view(self) -> tuple[Size, Preprocessing]:
        """How it sees a photo: (H, W) in pixels, and what is done to get there."""
        return self.config.image_size, self.preprocessing

    @property
    def name(self) -> str:
        """The name of the architecture and of its default run folder."""
        return self.config.name


def _row(
    name: str, side: int, channels: int, blocks: int, heads: int, window: int, parameters: int
) -> Variant:
    """A released network: four stages, ``blocks`` in the third, ``heads`` in the first."""
    return Variant(
        config=SwinConfig(
            name=name,
            image_size=(side, side),
            embed_dim=channels,
            depths=(2, 2, blocks, 2),
            num_heads=(heads, 2 * heads, 4 * heads, 8 * heads),
            window_size=window,
        ),
        # The 384-pixel releases are evaluated on the whole image.
        preprocessing=Preprocessing(crop=1.0 if side == 384 else 0.9),
        parameters=parameters,
    )


def _row_v2(
    size: str, side: int, window: int, trained: int, classes: int, parameters: int
) -> Variant:
    """A released V2.

    ``trained`` is the window of its pre-training in all stages but the last, whose
    grid was half of it; 0 where it was trained as it is.
    """
    channels, blocks, heads = {"t": (96, 6, 3), "s": (96, 18, 3), "b": (128, 18, 4)}.get(
        size, (192, 18, 6)
    )
    return Variant(
        config=SwinConfig(
            name=f"swinv2_{size}_w{trained}to{window}" if trained else f"swinv2_{size}_w{window}",
            image_size=(side, side),
            embed_dim=channels,
            depths=(2, 2, blocks, 2),
            num_heads=(heads, 2 * heads, 4 * heads, 8 * heads),
            window_size=window,
            num_classes=classes,
            version=2,
            pretrained_window_sizes=(trained,) * 3 + (trained // 2,) if trained else (),
        ),
        preprocessing=Preprocessing(crop=1.0 if side == 384 else 0.9),
        parameters=parameters,
    )


# Of timm's ViT: crop and filter as of its Swin, but Inception's mean and std. The default here;
# torchvision's weights bring their own (``checkpoints.vit_dialects``).
VIT_PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _vit_row(name: str, channels: int, heads: int, parameters: int) -> Variant:
    """A Vision Transformer of 12 blocks on 16x16 patches."""
    return Variant(
        config=VitConfig(name=name, embed_dim=channels, num_heads=heads),
        preprocessing=VIT_PREPROCESSING,
        parameters=parameters,
    )


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        _row("swin_t", 224, 96, 6, 3, 7, 28_288_354),
        _row("swin_s", 224, 96, 18, 3, 7, 49_606_258),
        _row("swin_b", 224, 128, 18, 4, 7, 87_768_224),
        _row("swin_b_384", 384, 128, 18, 4, 12, 87_903_584),
        _row("swin_l", 224, 192, 18, 6, 7, 196_532_476),
        _row("swin_l_384", 384, 192, 18, 6, 12, 196_735_516),
        _row_v2("t", 256, 8, 0, 1000, 28_347_154),
        _row_v2("t", 256, 16, 0, 1000, 28_347_154),
        _row_v2("s", 256, 8, 0, 1000, 49_728_418),
        _row_v2("s", 256, 16, 0, 1000, 49_728_418),
        _row_v2("b", 256, 8, 0, 1000, 87_918_816),
        _row_v2("b", 256, 16, 0, 1000, 87_918_816),
        # Windows of 12 were released with the 22k classes of their pre-training only.
        _row_v2("b", 192, 12, 0, 21841, 109_280_841),
        _row_v2("b", 256, 16, 12, 1000, 87_918_816),
        _row_v2("b", 384, 24, 12, 1000, 87_918_816),
        _row_v2("l", 192, 12, 0, 21841, 228_772_549),
        _row_v2("l", 256, 16, 12, 1000, 196_739_932),
        _row_v2("l", 384, 24, 12, 1000, 196_739_932),
        _vit_row("vit_t_16", 192, 3, 5_717_416),
        _vit_row("vit_s_16", 384, 6, 22_050_664),
        _vit_row("vit_b_16", 768, 12, 86_567_656),
        # Trained by scripts/train_pocket.py; its weights come with the package.
        Variant(
            config=SwinConfig(
                name="swin_pocket",
                image_size=(32, 32),
                patch_size=2,
                in_channels=1,
                embed_dim=16,
                depths=(2, 2, 2),
                num_heads=(1, 2, 4),
                window_size=4,
                num_classes=10,
            ),
            preprocessing=Preprocessing(
                crop=1.0, interpolation="bilinear", mean=(0.1307,), std=(0.3081,)
            ),
            parameters=144_136,
        ),
    )
}


_SIZES = {"tiny": "t", "small": "s", "base": "b", "large": "l"}
# The same networks as timm, Hugging Face, the authors' files and torchvision call them.
_NAMES = (
    (
        r"swin_(?P<size>tiny|small|base|large)_patch4_window(7|12)_(?P<side>224|384).*",
        "swin_{size}_{side}",
    ),
    (
        r"swinv2_(?P<size>tiny|small|base|large)_(patch4_)?window(?P<to>\d+to\d+)\D.*",
        "swinv2_{size}_w{to}",
    ),
    (
        r"swinv2_(?P<size>tiny|small|base|large)_(patch4_)?window(?P<window>\d+)\D.*",
        "swinv2_{size}_w{window}",
    ),
    (r"swin_v2_(?P<size>[tsb])", "swinv2_{size}_w8"),
)


def as_called_here(name: str) -> str | None:
    """The variant that another library calls ``name``; None if it is none."""
    plain = name.rpartition("/")[2].rpartition(":")[2].lower().replace("-", "_")
    for pattern, ours in _NAMES:
        if match := re.fullmatch(pattern, plain):
            groups = match.groupdict()
            groups["size"] = _SIZES.get(groups["size"], groups["size"])
            found = ours.format(**groups).removesuffix("_224")
            return found if found in VARIANTS else None
    return None


def find_variant(name: str) -> Variant:
    """The variant called ``name``.

    Raises:
        ConfigError: There is none; names the one that another library calls so, or the nearest.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    if (ours := as_called_here(name)) is not None:
        raise ConfigError(
            f"the variant {name!r} is called {ours} here",
            f"--variant {ours}",
        )
    raise ConfigError(
        f"unknown variant {name!r}",
        f"{', '.join(nearest(name, VARIANTS))} (all: swin-deploy variants), or --config FILE",
    )
