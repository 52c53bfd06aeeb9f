"""Tensor shapes, saved buffers and what the user says -> the architecture of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from swin_deploy.architecture import SwinConfig
from swin_deploy.checkpoints.options import Hints
from swin_deploy.errors import InputError
from swin_deploy.preprocessing import Size
from swin_deploy.variants import VARIANTS

_BLOCK = "layers.{}.blocks.0."
_TRAINED = ("window_size", "pretrained_window_sizes")  # what shapes of a V2 leave open
_FREE = ("name", "image_size", "num_classes", "stage_norms", "semantics")  # not of the network


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
        known = _read_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}, so it is no whole Swin") from error
    except (ValueError, IndexError) as error:
        raise InputError(f"the checkpoint has a tensor of another rank: {error}") from error
    if "window_size" not in known and hints.window_size is not None:
        known["window_size"] = hints.window_size
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


def _read_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of the config that shapes tell."""
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
        known["num_classes"] = shapes["head.weight"][0]
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
        tables = [shapes[f"{attn}relative_position_bias_table"] for attn in attentions]
        known["num_heads"] = tuple(heads for _, heads in tables)
        known["window_size"] = _largest_window([rows for rows, _ in tables])
    return known


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


def _largest_window(rows: list[int]) -> int:
    """Side of the largest square window among tables of (2 m - 1)^2 rows.

    Where a grid is smaller than a window, the window and its table shrink, maybe along one axis.
    """
    sides = [math.isqrt(count) if math.isqrt(count) ** 2 == count else 0 for count in rows]
    windows = [(side + 1) // 2 if side % 2 else None for side in sides]
    known = [window for window in windows if window is not None]
    if not known:
        raise InputError(f"position bias tables of {rows} rows belong to no square window")
    largest = max(known)
    for here, after in pairwise(windows):
        # A window that is smaller is a whole grid, and the next one is half of it.
        halves = (None, here // 2, (here + 1) // 2) if here is not None else ()
        if here not in (None, largest) and after not in halves:
            raise InputError(
                f"its windows are {', '.join(map(str, windows))} from stage to stage: one size for "
                "all makes them at no image size, and networks with several are not supported",
                "a network with one window size",
            )
    return largest


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
    return replace(
        config,
        image_size=image_size or config.image_size,
        window_size=window or config.window_size,
    )
