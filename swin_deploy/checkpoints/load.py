"""A checkpoint file -> a complete set of weights in our names, or the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from swin_deploy.architecture import Size, SwinConfig, stage_geometry
from swin_deploy.checkpoints.dialects import BUFFERS, DIALECTS, Dialect, Tensors
from swin_deploy.checkpoints.files import read_tensors
from swin_deploy.checkpoints.infer import infer_config, similar_variant
from swin_deploy.checkpoints.infer_vit import infer_vit
from swin_deploy.checkpoints.vit_dialects import VIT_DIALECTS
from swin_deploy.errors import InputError
from swin_deploy.model.build import make_network
from swin_deploy.networks import NetworkConfig, family_of
from swin_deploy.variants import VARIANTS, Preprocessing, Variant

PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")  # what wrappers put before every name
_SHOWN = 5  # names in an error, of possibly hundreds


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole network.

    Attributes:
        config: Read off the shapes.
        tensors: In our names, float32, finite.
        dialect: Whose names they had.
        opened: Containers and prefixes around them.
        dropped: Buffers that follow from the architecture.
        notes: What was changed on the way in, and what the file leaves open.
        preprocessing: Of the library's weights; None for that of the variant.
    """

    config: NetworkConfig
    tensors: Tensors
    dialect: str
    opened: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    preprocessing: Preprocessing | None = None


def load_checkpoint(path: Path, image_size: Size | None = None) -> Checkpoint:
    """Read, recognise, rename and check a checkpoint.

    Args:
        path: As ``read_tensors`` takes it.
        image_size: What it was trained for; None for that of the variant with its shapes.

    Raises:
        InputError: It is damaged, of no known dialect, incomplete, or holds NaN or all zeros.
        UnsafeError: Reading it would run code.
    """
    tensors, opened = read_tensors(path)
    while (prefix := _common_prefix(tensors)) is not None:
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        opened.append(prefix)
    dialect = detect_dialect(tensors)
    if dialect is None:
        raise InputError(
            f"{path} is of no known dialect; its keys begin with {_some(sorted(tensors))}",
            "weights of Microsoft, timm, torchvision or Hugging Face",
        )
    if dialect.refusal:
        raise InputError(f"{path} is a {dialect.name} checkpoint: {dialect.refusal}")
    renamed, dropped = _rename(path, dialect, tensors)
    checked, notes = _checked_values(path, renamed)
    infer = infer_vit if dialect.family == "ViT" else infer_config
    config = infer(checked, image_size)
    _require_complete(path, config, checked)
    if not dialect.axes_apart and isinstance(config, SwinConfig):
        _require_axes_alike(path, dialect, config)
    return Checkpoint(
        config=config,
        tensors=checked,
        dialect=dialect.name,
        opened=tuple(opened),
        dropped=tuple(dropped),
        notes=(*notes, dialect.note) if dialect.note else tuple(notes),
        preprocessing=dialect.preprocessing(config) if dialect.preprocessing else None,
    )


def resolve_variant(path: Path, wanted: Variant | None, image_size: Size | None) -> Variant:
    """The network to export a checkpoint as: its own architecture and classes.

    Args:
        path: The checkpoint.
        wanted: What the user named; has to be of the same architecture. None to go by the shapes.
        image_size: Overrides the size of the variant.

    Raises:
        InputError: As ``load_checkpoint``, or the checkpoint is of another network than ``wanted``.
    """
    size = image_size or (wanted.config.image_size if wanted is not None else None)
    found = load_checkpoint(path, size)
    config = found.config
    if wanted is None:
        known = VARIANTS.get(config.name)
        preprocessing = known.preprocessing if known is not None else Preprocessing()
        return Variant(config=config, preprocessing=found.preprocessing or preprocessing)
    require_same_network(path, config, wanted.config)
    return replace(
        wanted,
        config=replace(config, name=wanted.name, image_size=wanted.config.image_size),
        preprocessing=found.preprocessing or wanted.preprocessing,
    )


def detect_dialect(tensors: Mapping[str, Tensor]) -> Dialect | None:
    """The first dialect that the keys fit."""
    return next((dialect for dialect in (*DIALECTS, *VIT_DIALECTS) if dialect.fits(tensors)), None)


def require_same_network(path: Path, found: NetworkConfig, wanted: NetworkConfig) -> None:
    """Check that a checkpoint is of the network that the user named.

    The image size and the name are the user's to choose, and the classes are the checkpoint's.

    Raises:
        InputError: It is another network; names the differences and the variant that fits.
    """
    differences = [
        f"{field.name} {getattr(found, field.name)}, not {getattr(wanted, field.name)}"
        for field in fields(found)
        if type(found) is type(wanted)
        and field.name not in ("name", "image_size", "num_classes")
        and getattr(found, field.name) != getattr(wanted, field.name)
    ]
    if type(found) is not type(wanted):
        differences = [f"the parts of another kind of network, {family_of(found)}"]
    if differences:
        known = similar_variant(found)
        raise InputError(
            f"{path} is no {wanted.name}: it has {'; '.join(differences)}",
            f"--variant {known}" if known else "no --variant, to take what the checkpoint says",
        )


def _common_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return prefix
    return None


def _rename(path: Path, dialect: Dialect, tensors: Tensors) -> tuple[Tensors, list[str]]:
    renamed: Tensors = {}
    dropped, unknown = [], []
    for key, tensor in dialect.prepare(tensors).items():
        names = (rename(key) for rename in dialect.renames)
        name = next((name for name in names if name is not None), None)
        if name is not None and name in renamed:
            raise InputError(f"{path}: two tensors are both {name}, one of them {key}")
        if name is not None:
            renamed[name] = tensor
        elif BUFFERS.fullmatch(key):
            dropped.append(key)
        else:
            unknown.append(key)
    if unknown:
        raise InputError(
            f"{path} has {len(unknown)} tensors that no {dialect.family} of {dialect.name} has: "
            f"{_some(unknown)}"
        )
    return renamed, dropped


def _checked_values(path: Path, tensors: Tensors) -> tuple[Tensors, list[str]]:
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    checked: Tensors = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
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


def _require_complete(path: Path, config: NetworkConfig, tensors: Tensors) -> None:
    with torch.device("meta"):
        wanted = dict(make_network(config).named_parameters())
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is too many" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        raise InputError(f"{path} does not fit {config.name}: {_some(problems)}")


def _require_axes_alike(path: Path, dialect: Dialect, config: SwinConfig) -> None:
    """Refuse the sizes at which this library and ours shift differently."""
    for number, stage in enumerate(stage_geometry(config), start=1):
        small = [tokens <= config.window_size for tokens in stage.grid]
        if any(small) and not all(small):
            raise InputError(
                f"{path}: at stage {number} the grid is {stage.grid[0]}x{stage.grid[1]}, where a "
                f"{dialect.name} network with windows of {config.window_size} shifts along neither "
                "axis, which is not supported so far",
                "a square --image",
            )


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
