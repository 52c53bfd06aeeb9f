"""The ``config.json`` and ``preprocessor_config.json`` of transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.source import (
    Facts,
    Side,
    Sidecar,
    as_side,
    as_size,
    claims_of,
    crop_fraction,
    make_preprocessing,
    read_as,
)
from swin_deploy.network.interface import CropMode, Preprocessing, Size, Task
from swin_deploy.network.swin import Activation

_INTERPOLATION = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow counts its filters


_IMAGENET = Preprocessing().mean, Preprocessing().std
_STANDARD = (0.5,) * 3, (0.5,) * 3  # what transformers calls ImageNet's standard mean and std
_CHANNELS = 3  # where no config says it


class _Config(Sidecar):
    image_size: Side | tuple[Side, Side] | None = None
    patch_size: Side | tuple[Side, Side] | None = None
    num_channels: int | None = None
    embed_dim: int | None = None
    depths: tuple[int, ...] | None = None
    num_heads: tuple[int, ...] | None = None
    window_size: int | None = None
    pretrained_window_sizes: tuple[int, ...] = ()
    qkv_bias: bool | None = None
    id2label: dict[str, str] | None = None
    problem_type: str | None = None
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    use_absolute_embeddings: bool = False


class _Box(Sidecar, extra="forbid"):
    """A size as transformers writes it."""

    height: Side | None = None
    width: Side | None = None
    shortest_edge: Side | None = None

    @property
    def size(self) -> Size | None:
        """(height, width), if it is of that kind."""
        both = self.height, self.width
        return None if both[0] is None or both[1] is None else (both[0], both[1])


class _Processor(Sidecar):
    """A value that is None is the default of the class; a step that is null is not done."""

    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    do_resize: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    do_center_crop: bool | None = None
    do_pad: bool | None = None
    size: Side | _Box | None = None
    crop_size: Side | _Box | None = None
    crop_pct: float | None = None
    resample: int | None = None
    rescale_factor: float | None = None
    image_mean: float | tuple[float, ...] | None = None
    image_std: float | tuple[float, ...] | None = None

    def does(self, step: str) -> bool:
        """Whether a step is done that every class here has by default."""
        return step not in self.model_fields_set or bool(getattr(self, step))


_TASKS: dict[str, Task] = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
# What the networks built here have, whatever the file says.
_FIXED = {"layer_norm_eps": 1e-5, "use_absolute_embeddings": False}
_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")
_ACTIVATIONS: dict[str, Activation] = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys((*_TANH, "gelu_tanh"), "gelu_tanh"),
}
# Key -> the field of ``SwinConfig`` that the tensors say too.
_SHARED = {
    "num_channels": "in_channels",
    "embed_dim": "embed_dim",
    "depths": "depths",
    "num_heads": "num_heads",
    "window_size": "window_size",
    "qkv_bias": "qkv_bias",
}


def read_transformers(
    config_path: Path | None, processor_path: Path | None, part: str | None = None
) -> tuple[Preprocessing | None, Facts]:
    """What the files of transformers say; either may be missing.

    Args:
        config_path: ``config.json``.
        processor_path: ``preprocessor_config.json``.
        part: The entry of a larger network's config that is about its Swin, whose own classes mean
            nothing, and whose processor makes images of any size.
    """
    config = _Config() if config_path is None else read_as(_Config, config_path, part)
    origin = str(config_path) if part is None else f"{config_path}, {part}"
    for key, only in _FIXED.items():
        if (value := getattr(config, key)) != only:
            raise InputError(f"{origin}: {key} is {value!r}, and only {only!r} is supported")
    if config.hidden_act not in _ACTIVATIONS:
        raise InputError(
            f"{origin}: hidden_act is {config.hidden_act!r}, and only 'gelu' and its approximation "
            f"by tanh ({', '.join(_TANH)}) are supported"
        )
    if config.problem_type is not None and config.problem_type not in _TASKS:
        known = ", ".join(_TASKS)
        raise InputError(f"{origin}: problem_type is {config.problem_type!r}, none of {known}")
    values: dict[tuple[str, str], Any] = {
        (key, field): getattr(config, key) for key, field in _SHARED.items()
    }
    if config.patch_size is not None:
        values["patch_size", "patch_size"] = as_side(origin, "patch_size", config.patch_size)
    labels = _labels(origin, config.id2label or {}) if part is None else ()
    values["id2label", "num_classes"] = len(labels) or None
    image_size = None if config.image_size is None else as_size(config.image_size)
    values["image_size", "image_size"] = image_size
    claims = claims_of(origin, values)
    preprocessing = None
    taken = config.num_channels or _CHANNELS
    if processor_path is not None and part is not None:
        preprocessing = _read_squashed(processor_path, taken)
    elif processor_path is not None:
        preprocessing, cropped = _read_processor(processor_path, taken)
        image_size = image_size or cropped
        channels = len(preprocessing.mean)
        seen = {("size", "image_size"): cropped, ("image_mean", "in_channels"): channels}
        claims += claims_of(str(processor_path), seen)
    facts = Facts(
        image_size=image_size,
        window_size=config.window_size,
        pretrained_window_sizes=config.pretrained_window_sizes
        if any(config.pretrained_window_sizes)
        else (),
        activation=None if config_path is None else _ACTIVATIONS[config.hidden_act],
        labels=labels,
        task=None if part is not None else _TASKS.get(config.problem_type or ""),
        claims=claims,
    )
    return preprocessing, facts


def _labels(origin: str, names: dict[str, str]) -> tuple[str, ...]:
    """Names in the order of their indices."""
    if set(names) != {str(index) for index in range(len(names))}:
        raise InputError(f"{origin}: the keys of id2label are not the numbers from 0 on")
    return tuple(names[str(index)] for index in range(len(names)))


def _read_squashed(path: Path, channels: int) -> Preprocessing:
    """Of a processor that makes images of no fixed size; photos are squashed here."""
    processor = read_as(_Processor, path)
    values = {
        "crop": 1.0,
        "crop_mode": "squash",
        "interpolation": _INTERPOLATION.get(processor.resample or 2, "bilinear"),
        **_normalising(path, processor, _IMAGENET, channels),
    }
    return make_preprocessing(str(path), values)


Colours = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std


def _normalising(
    path: Path, processor: _Processor, usual: Colours, channels: int
) -> dict[str, tuple[float, ...]]:
    """Mean and std of pixels from 0 to 1 for what the processor does to pixels from 0 to 255.

    If it does those steps, it multiplies them by ``rescale_factor``, takes the mean off and divides
    by the std. With k = 255 * factor that is the same as
    (pixels / 255 - mean / k) / (std / k).

    Args:
        path: For messages.
        processor: Null, as a key that is missing, is the default of its class.
        usual: Mean and std of its class.
        channels: Of the images; how often a single number counts.
    """
    factor = (processor.rescale_factor or 1 / 255) if processor.does("do_rescale") else 1.0
    given = (processor.image_mean, processor.image_std)
    if not processor.does("do_normalize"):
        given = (0.0, 1.0)
    k = 1.0 if abs(factor * 255 - 1) < _NEAR else factor * 255  # 1/255 as JSON has it is a bit off
    if not k > 0:
        raise InputError(f"{path}: rescale_factor is {processor.rescale_factor}, not above 0")
    found = {}
    for name, value, default in zip(("mean", "std"), given, usual, strict=True):
        each = default if value is None or value == () else value
        each = (each,) * channels if isinstance(each, int | float) else each
        found[name] = each if k == 1 else tuple(one / k for one in each)
    return found


_NEAR = 1e-6


def _read_processor(path: Path, channels: int) -> tuple[Preprocessing, Size]:
    """Preprocessing, and the size of what comes out of it; ``channels`` of images."""
    processor = read_as(_Processor, path)
    if not processor.does("do_resize"):
        raise InputError(f"{path}: do_resize is {processor.do_resize}, and only True is supported")
    if processor.do_pad:
        raise InputError(f"{path}: do_pad is True, and only False is supported")
    name = processor.image_processor_type or processor.feature_extractor_type or "ViTImageProcessor"
    match = re.fullmatch(r"(ViT|ConvNext)(FeatureExtractor|ImageProcessor(Fast|Pil)?)", name)
    if match is None:
        raise InputError(f"{path} is of a {name}, not of a ViT or ConvNext image processor")
    if match[1] == "ViT":
        resample, (mode, crop, size) = 2, _vit_geometry(path, processor)
    else:
        resample, (mode, crop, size) = 3, _convnext_geometry(path, processor)
    if processor.resample is not None:
        resample = processor.resample
    if resample not in _INTERPOLATION:
        known = ", ".join(f"{number} ({name})" for number, name in _INTERPOLATION.items())
        raise InputError(f"{path}: resample is {resample}, none of {known}")
    values = {
        "crop": crop,
        "crop_mode": mode,
        "interpolation": _INTERPOLATION[resample],
        **_normalising(path, processor, _STANDARD, channels),
    }
    return make_preprocessing(str(path), values), size


Geometry = tuple[CropMode, float, Size]


def _vit_geometry(path: Path, processor: _Processor) -> Geometry:
    """Resize to ``size``, then perhaps cut ``crop_size`` out of the middle."""
    box = _as_box(processor.size or 224)
    mode: CropMode = "squash" if box.size is not None else "center"
    side = box.shortest_edge
    resized = (side, side) if side is not None else box.size
    cut = resized if mode == "squash" else None
    if processor.do_center_crop:
        cut = None if processor.crop_size is None else _as_box(processor.crop_size).size
    if resized is None or cut is None or (mode == "center" and cut[0] != cut[1]):
        raise InputError(
            f"{path}: size = {_written(processor.size)} and crop_size = "
            f"{_written(processor.crop_size)} with do_center_crop = {processor.do_center_crop} "
            "give no fixed image size, or one that is not supported"
        )
    height, width = map(crop_fraction, cut, resized)
    if height != width:
        raise InputError(
            f"{path}: crop_size keeps another fraction of the height than of the width"
        )
    return mode, height, cut


def _convnext_geometry(path: Path, processor: _Processor) -> Geometry:
    """Below 384 pixels a crop of ``crop_pct``, from there on the whole photo, squashed."""
    given = 384 if processor.size is None else processor.size
    side = given if isinstance(given, int) else given.shortest_edge
    if side is None or processor.do_center_crop:
        raise InputError(
            f"{path}: size = {_written(processor.size)} with do_center_crop = "
            f"{processor.do_center_crop} is not supported for ConvNext"
        )
    if side >= 384:
        return "squash", 1.0, (side, side)
    return "center", processor.crop_pct or 224 / 256, (side, side)


def _as_box(size: int | _Box) -> _Box:
    return _Box(height=size, width=size) if isinstance(size, int) else size


def _written(size: int | _Box | None) -> str:
    return str(size.model_dump(exclude_none=True) if isinstance(size, _Box) else size)
