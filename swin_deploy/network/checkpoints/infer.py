"""Tensor shapes, saved buffers and what the user says -> the architecture of a checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from swin_deploy.core.errors import InputError
from swin_deploy.network.catalogue import VARIANTS, NetworkConfig
from swin_deploy.network.checkpoints.dialect import SHARED_TABLE, TABLE
from swin_deploy.network.checkpoints.options import Hints
from swin_deploy.network.checkpoints.windows import read_windows, windows_of
from swin_deploy.network.interface import Size
from swin_deploy.network.swin import SwinConfig
from swin_deploy.network.vit import VitConfig

_BLOCK = "layers.{}.blocks.0."
_LAYER = r"head\.(\d+)\.weight"  # of a head of several
_TRAINED = (
    "window_size",
    "stage_windows",
    "pretrained_window_sizes",
)  # what shapes of a V2 leave open
# Not of the network that has a name.
_FREE = (
    *("name", "image_size", "num_classes", "head_hidden", "head_activation", "keeps_norm"),
    *("stage_norms", "semantics", "activation"),
)


def infer_config(
    tensors: Mapping[str, Tensor],
    hints: Hints,
    wanted: SwinConfig | None,
    image_size: Size | None,
    notes: list[str],
) -> SwinConfig:
    """The architecture that a checkpoint in our names was trained with.

    Args:
        tensors: In our names.
        hints: What else is known.
        wanted: The network that the user named; fills in what nothing else tells.
        image_size: Taken where nothing tells the trained one.
        notes: Gets what nothing but a name tells.

    Raises:
        InputError: A tensor that tells the architecture is missing or has an odd shape, the
            checkpoint is of another network than ``wanted``, or several networks would fit.
    """
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        known = _read_shapes(shapes, hints.image_size or image_size, hints.stage_windows)
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}, so it is no whole Swin") from error
    except (ValueError, IndexError) as error:
        raise InputError(f"the checkpoint has a tensor of another rank: {error}") from error
    if "window_size" not in known and hints.stage_windows is not None:
        known |= windows_of(hints.stage_windows)
    elif "window_size" not in known and hints.window_size is not None:
        known |= {"window_size": hints.window_size, "stage_windows": ()}
    if "num_heads" not in known and wanted is None and hints.head_channels is not None:
        known["num_heads"] = _usual_heads(known, hints.head_channels, notes)
    if known["version"] == 1:
        known["pretrained_window_sizes"] = ()
    elif hints.pretrained_window_sizes is not None:
        known["pretrained_window_sizes"] = hints.pretrained_window_sizes
    fitting = _fitting(known, wanted)
    network = _agreed(known, fitting, notes)
    image_size = hints.image_size or (fitting[0].image_size if fitting else image_size)
    if image_size is None:
        raise InputError(
            "the checkpoint fits no known variant, and checkpoints do not say their image size",
            "--image SIZE",
        )
    name = fitting[0].name if len(fitting) == 1 else "custom"
    return SwinConfig(name=name, image_size=image_size, **network)


def _usual_heads(known: Mapping[str, Any], head_channels: int, notes: list[str]) -> tuple[int, ...]:
    """Heads of every stage by what the code of the library takes unless it is told otherwise."""
    channels = [known["embed_dim"] << stage for stage in range(len(known["depths"]))]
    if any(count % head_channels for count in channels):
        raise InputError(
            f"the tensors do not tell num_heads, and {channels[0]} channels make no heads of "
            f"{head_channels}, as this library has them",
            "--config FILE that describes the network",
        )
    heads = tuple(count // head_channels for count in channels)
    notes.append(
        f"the tensors do not tell num_heads, taken as {heads}: of {head_channels} channels, as "
        "this library has them unless it is told otherwise; with others the same weights make "
        "another network"
    )
    return heads


def _read_shapes(
    shapes: Mapping[str, tuple[int, ...]], image_size: Size | None, windows: Sequence[Size] | None
) -> dict[str, Any]:
    """The fields of the config that shapes tell.

    ``image_size`` is that of the training, and ``windows`` what is said of those of each stage.
    """
    embed_dim, in_channels, patch_size, _ = shapes["patch_embed.proj.weight"]
    depths = _count_blocks(shapes)
    known: dict[str, Any] = {
        "patch_size": patch_size,
        "in_channels": in_channels,
        "embed_dim": embed_dim,
        "depths": depths,
        "mlp_ratio": shapes[f"{_BLOCK.format(0)}mlp.fc1.weight"][0] / embed_dim,
        "num_classes": 0,
        "stage_norms": tuple(
            sorted({int(name.split(".")[1]) for name in shapes if name.startswith("stage_norms.")})
        ),
    }
    if any(name.startswith("head.") for name in shapes):
        known |= _read_head(shapes)
    else:
        known["keeps_norm"] = bool({"norm.weight", "fc_norm.weight"} & shapes.keys())
    known |= _read_parts(shapes, len(depths))
    attentions = [f"{_BLOCK.format(stage)}attn." for stage in range(len(depths))]
    if f"{attentions[0]}logit_scale" in shapes:
        return known | {
            "version": 2,
            "num_heads": tuple(shapes[f"{attn}logit_scale"][0] for attn in attentions),
            "qkv_bias": f"{attentions[0]}q_bias" in shapes,
            "position_bias": True,
        }
    known |= {"version": 1, "qkv_bias": f"{attentions[0]}qkv.bias" in shapes}
    known["position_bias"] = any(name.endswith("bias_table") for name in shapes)
    if known["position_bias"]:
        shared = f"{attentions[0]}{SHARED_TABLE}" in shapes
        tables = [shapes[f"{attn}{SHARED_TABLE if shared else TABLE}"] for attn in attentions]
        if not shared:
            known["num_heads"] = tuple(heads for _, heads in tables)
        known |= read_windows([rows for rows, _ in tables], image_size, patch_size, windows)
    return known


def _read_head(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Classes, and the channels between the layers where there are several."""
    rows = {m[1]: shape[0] for n, shape in shapes.items() if (m := re.fullmatch(_LAYER, n))}
    if not rows:
        return {"num_classes": shapes["head.weight"][0]}
    *hidden, classes = (rows[number] for number in sorted(rows, key=int))
    return {"num_classes": classes, "head_hidden": tuple(hidden)}


def _read_parts(shapes: Mapping[str, tuple[int, ...]], stages: int) -> dict[str, bool]:
    """Norms and biases that a network has or has not, by their names; as usual without merges."""
    parts = {
        "patch_norm": any(name.startswith("patch_embed.norm.") for name in shapes),
        "fc_norm": any(name.startswith("fc_norm.") for name in shapes),
    }
    if stages == 1:
        return parts
    merges = {name.partition(".downsample.")[2] for name in shapes}
    return parts | {
        "merge_norm": bool(merges & {"norm.weight", "norm.bias"}),
        "merge_bias": "reduction.bias" in merges,
    }


def _count_blocks(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    last: dict[int, int] = {}
    for name in shapes:
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "blocks":
            stage, block = int(parts[1]), int(parts[3])
            last[stage] = max(last.get(stage, 0), block + 1)
    if not last or sorted(last) != list(range(len(last))):
        raise InputError(f"the checkpoint has blocks in stages {sorted(last)} only")
    return tuple(last[stage] for stage in sorted(last))


def _fitting(known: Mapping[str, Any], wanted: SwinConfig | None) -> list[SwinConfig]:
    """The networks that agree with all that is known; of ``wanted``, it alone."""
    if wanted is None:
        pool = [variant.config for variant in VARIANTS.values()]
        return [
            config
            for config in pool
            if isinstance(config, SwinConfig) and not _differences(known, config)
        ]
    if differences := _differences(known, wanted):
        others = " or ".join(config.name for config in _fitting(known, None))
        raise InputError(
            f"the checkpoint is no {wanted.name}: it has {'; '.join(differences)}",
            f"--variant {others}" if others else "no --variant, to take what the checkpoint says",
        )
    return [wanted]


def _differences(known: Mapping[str, Any], config: SwinConfig) -> list[str]:
    return [
        f"{name} {value}, not {getattr(config, name)}"
        for name, value in known.items()
        if name not in _FREE and getattr(config, name) != value
    ]


def _agreed(
    known: Mapping[str, Any], fitting: list[SwinConfig], notes: list[str]
) -> dict[str, Any]:
    """All fields of the network: the known ones, and the rest as the fitting networks have it."""
    network = dict(known)
    missing = [f.name for f in fields(SwinConfig) if f.name not in {*known, *_FREE}]
    for name in missing:
        values = {getattr(config, name) for config in fitting}
        if len(values) > 1:
            names = " or ".join(config.name for config in fitting)
            raise InputError(
                f"the tensors do not tell {name}: {names} would fit", f"--variant {names}"
            )
        if not values:
            raise InputError(
                f"the tensors do not tell {name}, and no known variant has their shapes",
                "--config FILE that describes the network",
            )
        network[name] = values.pop()
    told = [f"{name} {network[name]}" for name in missing if name in _TRAINED and network[name]]
    if told:
        notes.append(
            f"the tensors do not tell {' and '.join(told)}, taken from {fitting[0].name}: with "
            "others the same weights make another network"
        )
    return network


def as_asked(config: SwinConfig, image_size: Size | None, window: int | None) -> SwinConfig:
    """The network that a checkpoint of ``config`` becomes for other sizes."""
    sized = replace(config, image_size=image_size or config.image_size)
    return sized if window is None else replace(sized, window_size=window, stage_windows=())


# Heads by (channels, blocks): tiny, small, base, large and huge of timm's vision_transformer.py.
RELEASED_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16}


def infer_vit(
    tensors: Mapping[str, Tensor], image_size: Size | None, wanted: NetworkConfig | None
) -> VitConfig:
    """The architecture of a checkpoint in our names.

    The image size is that of the positions. Heads are in no shape: they are those of the released
    network of the same channels and blocks.

    Args:
        tensors: In our names.
        image_size: What the user asks for; has to be that of the positions.
        wanted: The network that the user named.

    Raises:
        InputError: A tensor that tells the architecture is missing or has an odd shape, the
            positions are for another size, no released network has these channels and blocks, or
            it is another network than ``wanted``.
    """
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        channels, in_channels, patch_size, _ = shapes["patch_embed.proj.weight"]
        _, positions, _ = shapes["pos_embed"]
        depth = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
        config = VitConfig(
            name="custom",
            image_size=_size_of(positions, patch_size, image_size),
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=channels,
            depth=depth,
            num_heads=_heads_of(channels, depth),
            mlp_ratio=shapes["blocks.0.mlp.fc1.weight"][0] / channels,
            num_classes=shapes["head.weight"][0],
        )
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}, so it is no whole ViT") from error
    except ValueError as error:
        raise InputError(f"the checkpoint has a tensor of another rank: {error}") from error
    if wanted is not None:
        _require_same(config, wanted)
        return replace(config, name=wanted.name)
    return replace(config, name=_similar_variant(config) or config.name)


def _similar_variant(config: VitConfig) -> str | None:
    """The variant that differs in nothing but the image size and the classes, if there is one."""
    for name, variant in VARIANTS.items():
        theirs = variant.config
        if isinstance(theirs, VitConfig) and config == replace(
            theirs, name=config.name, image_size=config.image_size, num_classes=config.num_classes
        ):
            return name
    return None


def _require_same(found: VitConfig, wanted: NetworkConfig) -> None:
    if not isinstance(wanted, VitConfig):
        differences = ["the parts of a ViT"]
    else:
        differences = [
            f"{field.name} {getattr(found, field.name)}, not {getattr(wanted, field.name)}"
            for field in fields(found)
            if field.name not in ("name", "image_size", "num_classes")
            and getattr(found, field.name) != getattr(wanted, field.name)
        ]
    if differences:
        known = _similar_variant(found)
        raise InputError(
            f"the checkpoint is no {wanted.name}: it has {'; '.join(differences)}",
            f"--variant {known}" if known else "no --variant, to take what the checkpoint says",
        )


def _size_of(positions: int, patch_size: int, wanted: Size | None) -> Size:
    """The image size of a table of ``positions`` rows: the class token and a square of patches."""
    side = math.isqrt(max(0, positions - 1))
    if side < 1 or side * side + 1 != positions:
        raise InputError(
            f"pos_embed has {positions} rows, which are no class token and square of patches: "
            "such a ViT is not supported so far"
        )
    pixels = side * patch_size
    if wanted is not None and wanted != (pixels, pixels):
        size = f"{wanted[0]}x{wanted[1]}"
        raise InputError(
            f"the checkpoint has positions for {side}x{side} patches of {patch_size}, so for "
            f"images of {pixels}x{pixels}, not {size}: positions are not interpolated",
            f"--image {pixels}, or weights that were fine-tuned at {size}",
        )
    return pixels, pixels


def _heads_of(channels: int, depth: int) -> int:
    if (channels, depth) not in RELEASED_HEADS:
        known = ", ".join(f"{c} channels with {d} blocks" for c, d in RELEASED_HEADS)
        raise InputError(
            f"the checkpoint is a ViT of {channels} channels with {depth} blocks, and no file says "
            "how many heads a ViT has",
            f"one of {known}",
        )
    return RELEASED_HEADS[channels, depth]
