"""``config.json`` and ``preprocessor_config.json`` beside a checkpoint; and those of timm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field

from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.sidecar_transformers import read_transformers
from swin_deploy.network.checkpoints.source import (
    DownloadListener,
    Facts,
    Side,
    Sidecar,
    as_size,
    claims_of,
    make_preprocessing,
    read_as,
)
from swin_deploy.network.interface import CROP_MODES, INTERPOLATIONS, Preprocessing, Size
from swin_deploy.network.swin import ACTIVATIONS

# Values that timm takes where a file gives none.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CROP = 0.875

# Architecture -> what its head reads: the mean of all tokens, or the class token.
_POOLING = {r"swin(v2)?_": "avg", r"vit_(tiny|small|base)_patch16_\d+$": "token"}


_DEPTHS = (2, 2, 6, 2)  # of timm's Swin unless it is told otherwise; here their number counts
_PARTITION = (("small_grids", "pad"), ("stop_shift", "never"))


class _Pretrained(Sidecar):
    input_size: tuple[Side, Side, Side] | None = None
    interpolation: str = "bicubic"
    crop_pct: float | None = None
    crop_mode: str = "center"
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    num_classes: int | None = None
    label_names: tuple[str, ...] = ()


class _Arguments(Sidecar, extra="allow"):
    img_size: Side | tuple[Side, Side] | None = None
    window_size: Side | tuple[Side | tuple[Side, Side], ...] | None = None
    pretrained_window_sizes: tuple[int, ...] = ()
    patch_size: Side = 4
    global_pool: str | None = None
    always_partition: bool = False  # windows are as they are, and shift, on any grid
    act_layer: str | None = None
    strict_img_size: bool = True
    dynamic_img_size: bool = False  # the same as not strict
    # Those that change nothing at inference, or that the shapes of the tensors say.
    mlp_ratio: float | None = None
    drop_rate: float | None = None
    proj_drop_rate: float | None = None
    attn_drop_rate: float | None = None
    drop_path_rate: float | None = None
    in_chans: int | None = None
    embed_dim: int | None = None
    depths: tuple[int, ...] | None = None
    num_heads: tuple[int, ...] | None = None
    num_classes: int | None = None


class _Config(Sidecar):
    architecture: str
    pretrained_cfg: _Pretrained | None = None
    model_args: _Arguments = Field(default_factory=_Arguments)
    num_classes: int | None = None
    label_names: tuple[str, ...] = ()
    global_pool: str | None = None


def read_timm(path: Path) -> tuple[Preprocessing, Facts]:
    """What timm's ``config.json`` says."""
    config = read_as(_Config, path)
    # The first versions of the file had all keys on one level.
    pretrained = config.pretrained_cfg or read_as(_Pretrained, path)
    arguments = config.model_args
    pooling = next((v for k, v in _POOLING.items() if re.match(k, config.architecture)), None)
    if pooling is None:
        raise InputError(f"{path}: architecture is {config.architecture!r}, no Swin and no ViT")
    for key, value in (arguments.model_extra or {}).items():
        raise InputError(f"{path}: model_args.{key} is {value!r}, which is not supported")
    v2 = config.architecture.startswith("swinv2_")  # timm's others have GELU alone
    if arguments.act_layer not in (None, *(ACTIVATIONS if v2 else ())):
        raise InputError(
            f"{path}: model_args.act_layer is {arguments.act_layer!r}, and only "
            f"{' and '.join(ACTIVATIONS) if v2 else 'none'} is supported for this network",
        )
    for key, pool in (
        ("global_pool", config.global_pool),
        ("model_args.global_pool", arguments.global_pool),
    ):
        if pool not in (None, pooling):
            raise InputError(
                f"{path}: {key} is {pool!r}: the head of this network reads {pool or 'no mean'}, "
                f"and only {pooling!r} is supported"
            )

    size = None if pretrained.input_size is None else pretrained.input_size[1:]
    if arguments.img_size is not None:
        size = as_size(arguments.img_size)
    window, pretrained_windows = _windows(config.architecture)
    stages: tuple[Size, ...] = ()
    if isinstance(arguments.window_size, int):
        window = arguments.window_size
    elif arguments.window_size is not None:
        stages = _stage_windows(arguments.window_size, len(arguments.depths or _DEPTHS))
        window = None if len({*stages}) > 1 or stages[0][0] != stages[0][1] else stages[0][0]
        stages = () if window is not None else stages
    labels = config.label_names or pretrained.label_names
    classes = pretrained.num_classes if config.num_classes is None else config.num_classes

    claims: dict[tuple[str, str], Any] = {
        ("num_classes", "num_classes"): classes,
        ("mean", "in_channels"): len(pretrained.mean),
        ("label_names", "num_classes"): len(labels) or None,
        ("input_size", "image_size"): size,
        ("input_size", "in_channels"): pretrained.input_size and pretrained.input_size[0],
    }
    if window is not None and size is not None and not arguments.always_partition:
        # timm gives a grid that is smaller than the window a window of its own size.
        claims["architecture", "window_size"] = min(window, min(size) // arguments.patch_size)
    facts = Facts(
        image_size=size,
        window_size=window,
        stage_windows=stages,
        rules=_PARTITION if arguments.always_partition else (),
        windows_as_trained=arguments.dynamic_img_size or not arguments.strict_img_size,
        activation=next((a for a in ACTIVATIONS if a == arguments.act_layer), None),
        pretrained_window_sizes=arguments.pretrained_window_sizes or pretrained_windows,
        labels=labels,
        claims=claims_of(str(path), claims),
    )
    return _preprocessing(path, pretrained), facts


def _stage_windows(given: tuple[int | Size, ...], stages: int) -> tuple[Size, ...]:
    """As timm takes it: two integers are (rows, columns) of all stages, else one for each."""
    if len(given) == 2 and isinstance(given[0], int) and isinstance(given[1], int):
        return ((given[0], given[1]),) * stages
    return tuple(as_size(one) for one in given)


def _windows(architecture: str) -> tuple[int | None, tuple[int, ...]]:
    """Window size, and those before a fine-tuning at another: both stand in timm's names.

    Of ``swinv2_base_window12to16_192to256`` they are 16, and 12 except at the last stage, whose
    grid was 6x6 when images had 192 pixels.
    """
    match = re.search(r"_window(\d+)(?:to(\d+)_(\d+)to\d+)?", architecture)
    if match is None:
        return None, ()
    first, second, size = match.groups()
    if second is None:
        return int(first), ()
    return int(second), tuple(min(int(first), int(size) // 4 // 2**stage) for stage in range(4))


def _preprocessing(path: Path, pretrained: _Pretrained) -> Preprocessing:
    if pretrained.interpolation not in INTERPOLATIONS:
        raise InputError(
            f"{path}: interpolation is {pretrained.interpolation!r}, none of "
            f"{', '.join(INTERPOLATIONS)}"
        )
    if pretrained.crop_mode not in CROP_MODES:
        raise InputError(f"{path}: crop_mode is {pretrained.crop_mode!r}, not center or squash")
    return make_preprocessing(
        str(path),
        {
            "crop": pretrained.crop_pct or _CROP,
            "crop_mode": pretrained.crop_mode,
            "interpolation": pretrained.interpolation,
            "mean": pretrained.mean,
            "std": pretrained.std,
        },
    )


_SWINS = ("swin", "swinv2", "donut-swin", "maskformer-swin")


class _Part(Sidecar):
    model_type: str | None = None


class _Kind(Sidecar):
    model_type: str | None = None
    architecture: str | None = None
    # Where larger networks of transformers say what their Swin is.
    backbone_config: _Part | None = None
    encoder: _Part | None = None

    @property
    def part(self) -> str | None:
        """The entry about the Swin of a larger network; None if there is none."""
        parts = {"backbone_config": self.backbone_config, "encoder": self.encoder}
        swins = (k for k, v in parts.items() if v is not None and v.model_type in _SWINS)
        return next(swins, None)


def read_sidecars(
    config: Path | None, processor: Path | None, listener: DownloadListener
) -> tuple[Preprocessing | None, Facts]:
    """What the files beside a checkpoint say.

    Args:
        config: ``config.json`` of transformers or timm; None where there is none.
        processor: ``preprocessor_config.json`` of transformers; None where there is none.
        listener: Hears of a file that says nothing that is known here.
    """
    kind = _Kind() if config is None else read_as(_Kind, config)
    if config is not None and kind.architecture is not None:
        return read_timm(config)
    if kind.part is not None:
        listener.note(
            f"{config} is of a {kind.model_type}: its Swin is taken, with the mean and std of its "
            "images; photos are squashed to the size of the graph"
        )
        return read_transformers(config, processor, kind.part)
    if kind.model_type is not None and kind.model_type not in _SWINS:
        raise InputError(
            f"{config}: model_type is {kind.model_type!r}: neither {', '.join(_SWINS)} nor a "
            "network with one of them as its backbone_config or encoder",
            "a folder of a Swin, or of a network that has one in it",
        )
    if config is not None and kind.model_type is None:
        listener.note(f"{config} says neither model_type nor architecture and is not used")
        config = None
    return read_transformers(config, processor)


def is_timm(config: Path) -> bool:
    """Whether a ``config.json`` is timm's."""
    return read_as(_Kind, config).architecture is not None
