"""A checkpoint file -> a complete set of weights in our names, resized if asked, or why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from swin_deploy.core.errors import ConfigError, InputError, some
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.checkpoints.buffers import read_hints, require_standard
from swin_deploy.network.checkpoints.dialect import (
    BUFFERS,
    SHARED_TABLE,
    TABLE,
    Dialect,
    Tensors,
)
from swin_deploy.network.checkpoints.files import (
    checked_values,
    read_tensors,
    require_complete,
    require_stated,
)
from swin_deploy.network.checkpoints.infer import as_asked, infer_config, infer_vit
from swin_deploy.network.checkpoints.options import Hints, LoadOptions
from swin_deploy.network.checkpoints.renaming import about, add_head, rename
from swin_deploy.network.checkpoints.roots import find_root
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.swin import SwinConfig, stage_geometry
from swin_deploy.network.vit import VitConfig


def resize_windows(
    tensors: Tensors, native: SwinConfig, config: SwinConfig
) -> tuple[Tensors, SwinConfig, list[str]]:
    """Fit weights of one window size to another.

    V1: bicubic interpolation of the position bias tables, as load_pretrained of the authors' code.
    V2: nothing is interpolated; the position MLP goes on with the scale that it was trained with.

    Args:
        tensors: In our names.
        native: What they were trained as.
        config: What they become; differs in image and window size.

    Returns:
        The tensors, the config (V2: with the windows of the training) and what to tell the user.
    """
    if native.version == 2:
        trained = native.pretrained_window_sizes or (0,) * len(native.depths)
        sizes = tuple(
            size or stage.window[0]
            for size, stage in zip(trained, stage_geometry(native), strict=True)
        )
        note = f"windows of {config.window_size}, positions scaled as trained with {sizes}"
        return tensors, replace(config, pretrained_window_sizes=sizes), [note]
    resized = dict(tensors)
    changes: dict[str, int] = {}
    windows = [geometry.window for geometry in stage_geometry(native)]
    for stage, geometry in enumerate(stage_geometry(config)):
        rows, columns = (2 * side - 1 for side in geometry.window)
        for block in range(geometry.depth):
            name = f"layers.{stage}.blocks.{block}.attn.{TABLE}"
            if name not in tensors or tensors[name].shape[0] == rows * columns:
                continue
            table, side = _as_image(name, tensors[name], windows[stage])
            bicubic = F.interpolate(table, size=(rows, columns), mode="bicubic")
            resized[name] = bicubic.flatten(2)[0].T.contiguous()
            change = f"{side[0]}x{side[1]} to {rows}x{columns}"
            changes[change] = changes.get(change, 0) + 1
    notes = [
        f"{count} position bias tables were resized from {change}, bicubic"
        for change, count in changes.items()
    ]
    return resized, config, notes


def share_tables(tensors: Tensors, config: SwinConfig) -> Tensors:
    """Give every head a column of its own where one table is for all heads of a block."""
    spread = dict(tensors)
    for name in tensors:
        if name.endswith(SHARED_TABLE):
            heads = config.num_heads[int(name.split(".")[1])]
            own = name.removesuffix(SHARED_TABLE) + TABLE
            spread[own] = spread.pop(name).expand(-1, heads).contiguous()
    return spread


def _as_image(name: str, table: Tensor, window: Size) -> tuple[Tensor, Size]:
    """A table (rows, a) as an image (1, a, height, width): of that window, or of a square one."""
    side = math.isqrt(table.shape[0])
    sizes = [(2 * window[0] - 1, 2 * window[1] - 1), (side, side)]
    size = next((one for one in sizes if one[0] * one[1] == table.shape[0]), None)
    if size is None:
        raise InputError(f"{name} has {table.shape[0]} rows: its window is not square")
    return table.T.reshape(1, -1, *size), size


_CLASSIFIER_HEAD = "head."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole network.

    Attributes:
        config: Read off the shapes, for the image and window size that were asked for.
        tensors: In our names, float32, finite.
        dialect: Whose names they had.
        opened: Containers and prefixes around them.
        dropped: What follows from the architecture, or belongs to other parts of a larger model.
        notes: What was changed on the way in, or is not in the file.
        preprocessing: Of the library's weights; None for that of the variant.
        labels: Name of each class by its index, as the file itself has them; empty where it has
            none, or another number of them.
    """

    config: NetworkConfig
    tensors: Tensors
    dialect: str
    opened: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()


def load_for(path: Path, options: LoadOptions, wanted: NetworkConfig) -> Checkpoint:
    """As ``load_checkpoint``, of just this network, whatever it is called."""
    checkpoint = load_checkpoint(path, options)
    if checkpoint.config != replace(wanted, name=checkpoint.config.name):
        raise InputError(
            f"{path} is not of the network of this request: {checkpoint.config}, not {wanted}",
            "the variant and the options of checkpoints.resolve.resolve_variant",
        )
    return checkpoint


def load_checkpoint(path: Path, options: LoadOptions | None = None) -> Checkpoint:
    """Read, recognise, rename and check a checkpoint.

    Args:
        path: As ``read_tensors`` takes it.
        options: What the user says about it.
    """
    options = options or LoadOptions()
    raw = read_tensors(path, options.ema, options.container)
    with about(path):
        root = find_root(raw.tensors, options.prefix)
    dialect = root.dialect
    if dialect.refusal:
        raise InputError(f"{path} is a {dialect.name} checkpoint: {dialect.refusal}")
    renamed = rename(path, root, options)
    buffers = {n: value for n, value in renamed.tensors.items() if BUFFERS.fullmatch(n)}
    weights = {n: value for n, value in renamed.tensors.items() if n not in buffers}
    checked, notes = checked_values(path, weights)
    notes += renamed.notes
    if raw.left:
        notes.append(f"{raw.left} was left alone" + ("" if options.ema else "; --ema takes it"))
    if raw.strangers:
        notes.append(f"left alone, and nothing of them run: objects of {some(raw.strangers)}")
    config: NetworkConfig
    if dialect.family == "ViT":
        config = _vit_config(path, checked, options)
    else:
        activation = add_head(path, renamed, checked, options, notes)
        config, checked = _swin_config(path, dialect, checked, buffers, options, notes)
        config = replace(config, head_activation=activation)
    require_complete(path, config, checked)
    require_stated(path, config, options)
    labels = _own_labels(raw.labels, config, notes)
    return Checkpoint(
        config=config,
        tensors=checked,
        dialect=dialect.name,
        opened=(*raw.opened, *root.opened),
        dropped=(*renamed.dropped, *buffers),
        notes=(*notes, *([dialect.note] if dialect.note else [])),
        preprocessing=dialect.preprocessing(config) if dialect.preprocessing else None,
        labels=labels,
    )


def _own_labels(
    found: Mapping[str, tuple[str, ...]], config: NetworkConfig, notes: list[str]
) -> tuple[str, ...]:
    """The first names beside the tensors that are as many as the classes."""
    for entry, names in found.items():
        if len(names) == config.num_classes:
            notes.append(f"names of its classes are in its entry {entry}: {names[0]!r} is class 0")
            return names
        if config.num_classes:
            notes.append(
                f"its entry {entry} has {len(names)} names, and the network has "
                f"{config.num_classes} classes: they are not used"
            )
    return ()


def _vit_config(path: Path, tensors: Tensors, options: LoadOptions) -> VitConfig:
    if options.window is not None:
        raise ConfigError(f"{path} is a ViT, which has no windows", "leave --window out")
    size = options.image_size or options.hints.image_size
    with about(path):
        return infer_vit(tensors, size, options.wanted)


def _swin_config(
    path: Path,
    dialect: Dialect,
    tensors: Tensors,
    buffers: Mapping[str, Tensor],
    options: LoadOptions,
    notes: list[str],
) -> tuple[SwinConfig, Tensors]:
    """The network for the sizes that are asked for, and the tensors that fit it."""
    if options.wanted is not None and not isinstance(options.wanted, SwinConfig):
        raise InputError(
            f"{path} is no {options.wanted.name}: it has the parts of a Swin",
            "no --variant, to take what the checkpoint says",
        )
    _without_head(tensors, options.wanted, notes)
    native = _native_config(path, dialect, tensors, buffers, options, notes)
    tensors = share_tables(tensors, native)
    config = as_asked(native, options.image_size, options.window)
    if config.stage_norms:
        stages = ", ".join(str(stage + 1) for stage in config.stage_norms)
        notes.append(f"the maps of stages {stages} have norms of their own")
    if options.window is not None:
        tensors, config, changes = resize_windows(tensors, native, config)
        notes += changes
    require_standard(path, buffers, config)
    squares = dialect.windows_as_trained and config.version == 2
    if squares or options.hints.windows_as_trained:
        _require_trained_windows(path, dialect, native, config, squares)
    return config, tensors


def _native_config(
    path: Path,
    dialect: Dialect,
    tensors: Tensors,
    buffers: Mapping[str, Tensor],
    options: LoadOptions,
    notes: list[str],
) -> SwinConfig:
    wanted = options.wanted if isinstance(options.wanted, SwinConfig) else None
    stages = {name.split(".")[1] for name in tensors if name.startswith("layers.")}
    with about(path):
        hints = _agreed(read_hints(buffers, len(stages)), options.hints).or_else(dialect.hints)
        config = infer_config(tensors, hints, wanted, options.image_size, notes)
    usual = "gelu" if wanted is None else wanted.activation
    config = replace(config, activation=hints.activation or usual)
    if hints.activation not in (None, "gelu"):
        notes.append(f"its MLPs have {hints.activation}, as comes with the weights")
    told: dict[str, Any] = dict(options.hints.rules or ())
    semantics = replace(dialect.semantics_of(config.version), **told)
    if wanted is None:
        return replace(config, semantics=semantics)
    for rule in options.rules:
        own, theirs = getattr(wanted.semantics, rule), getattr(semantics, rule)
        if own != theirs:
            notes.append(f"{rule} is {own} as you say, in place of {theirs} as of {dialect.name}")
            semantics = replace(semantics, **{rule: own})
    return replace(config, semantics=semantics)


def _agreed(saved: Hints, said: Hints) -> Hints:
    """What saved buffers tell and what is said elsewhere, which must not contradict each other."""
    merged = {}
    for field in fields(Hints):
        first, second = getattr(saved, field.name), getattr(said, field.name)
        if first is not None and second is not None and first != second:
            raise InputError(f"its buffers are of {field.name} {first}, but {second} is said of it")
        merged[field.name] = second if first is None else first
    return Hints(**merged)


def _without_head(tensors: Tensors, wanted: NetworkConfig | None, notes: list[str]) -> None:
    """What a network gives that has no head; the norm before it goes where it is not wanted."""
    if any(name.startswith(_CLASSIFIER_HEAD) for name in tensors):
        return
    last = [f"{norm}.{kind}" for norm in ("norm", "fc_norm") for kind in ("weight", "bias")]
    bare = isinstance(wanted, SwinConfig) and not wanted.has_norm  # as runs of earlier versions are
    there = [name for name in last if name in tensors]
    for name in there if bare else ():
        del tensors[name]
    gives = "feature maps, or embeddings" if there and not bare else "feature maps only"
    more = "; its last norm is not used" if there and bare else ""
    notes.append(f"it has no head, so it gives {gives}{more}")


def _require_trained_windows(
    path: Path, dialect: Dialect, native: SwinConfig, config: SwinConfig, squares: bool
) -> None:
    """Refuse sizes at which it matters that the library decides on windows at the trained size.

    Where ``squares``, it also has one number only for both sides of a window.
    """
    trained = stage_geometry(as_asked(config, native.image_size, None))
    for number, (was, stage) in enumerate(zip(trained, stage_geometry(config), strict=True), 1):
        same = stage.window == was.window and stage.shift == was.shift
        if same and not (squares and stage.window[0] != stage.window[1]):
            continue
        raise InputError(
            f"{path}: at stage {number} the grid is {stage.grid[0]}x{stage.grid[1]}, and a "
            f"{dialect.name} network goes on with the windows of {_sides(was.window)}, shifted by "
            f"{_sides(was.shift)}, that it took at {native.image_size[0]}x{native.image_size[1]}",
            "a size nearer to that, or a config.json whose image_size is the one to run at",
        )


def _sides(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
