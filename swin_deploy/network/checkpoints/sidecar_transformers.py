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
from swin_deploy.network.interface import CropMode, Head, Preprocessing, Size

_INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # as Pillow counts its filters


_IMAGENET_MEAN, _IMAGENET_STD = Preprocessing().mean, Preprocessing().std


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
    """None is what transformers takes for the default of the class."""

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
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None


_HEADS: dict[str | None, Head] = {
    None: "choice",  # as its pipelines take it
    "single_label_classification": "choice",
    "multi_label_classification": "independent",
    "regression": "values",
}
# What the networks built here have, whatever the file says.
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "use_absolute_embeddings": False}
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
    if config.problem_type not in _HEADS:
        known = ", ".join(filter(None, _HEADS))
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
    if processor_path is not None and part is not None:
        preprocessing = _read_colours(processor_path)
    elif processor_path is not None:
        preprocessing, cropped = _read_processor(processor_path)
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
        labels=labels,
        head=None if config_path is None or part is not None else _HEADS[config.problem_type],
        claims=claims,
    )
    return preprocessing, facts


def _labels(origin: str, names: dict[str, str]) -> tuple[str, ...]:
    """Names in the order of their indices."""
    if set(names) != {str(index) for index in range(len(names))}:
        raise InputError(f"{origin}: the keys of id2label are not the numbers from 0 on")
    return tuple(names[str(index)] for index in range(len(names)))


def _read_colours(path: Path) -> Preprocessing:
    """Mean and std of a processor that makes images of no fixed size; photos are squashed here."""
    processor = read_as(_Processor, path)
    values = {
        "crop": 1.0,
        "crop_mode": "squash",
        "interpolation": _INTERPOLATION.get(processor.resample or 2, "bilinear"),
        "mean": processor.image_mean or _IMAGENET_MEAN,
        "std": processor.image_std or _IMAGENET_STD,
    }
    return make_preprocessing(str(path), values)


def _read_processor(path: Path) -> tuple[Preprocessing, Size]:
    """Preprocessing, and the size of what comes out of it."""
    processor = read_as(_Processor, path)
    for key, wanted in (
        ("do_resize", True),
        ("do_rescale", True),
        ("do_normalize", True),
        ("do_pad", False),
    ):
        if getattr(processor, key) not in (None, wanted):
            raise InputError(f"{path}: {key} is {not wanted}, and only {wanted} is supported")
    if abs((processor.rescale_factor or 1 / 255) * 255 - 1) > 1e-6:
        raise InputError(f"{path}: rescale_factor is {processor.rescale_factor}, not 1/255")
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
        raise InputError(f"{path}: resample is {resample}, not 2 (bilinear) or 3 (bicubic)")
    values = {
        "crop": crop,
        "crop_mode": mode,
        "interpolation": _INTERPOLATION[resample],
        "mean": processor.image_mean or (0.5, 0.5, 0.5),
        "std": processor.image_std or (0.5, 0.5, 0.5),
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
