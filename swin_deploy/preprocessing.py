"""How a photo becomes the input of a network, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from swin_deploy.errors import ConfigError

Size = tuple[int, int]  # (height, width), in pixels
Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["center", "squash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a photo becomes the input tensor.

    Attributes:
        crop: Fraction of the resized image that the centre crop keeps, along the shorter side.
        crop_mode: Whether the resize keeps the aspect ratio and covers the crop ("center"), or
            gives every photo the same height and width ("squash").
        interpolation: Filter of the resize.
        mean: Per channel, on the 0 to 1 scale. The default is ImageNet's, as in every Swin release.
        std: Per channel, on the 0 to 1 scale.
    """

    crop: float = 0.9
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ConfigError(f"preprocessing.crop = {self.crop} must be above 0 and at most 1")
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(
                f"preprocessing.mean has {len(self.mean)} values and std has {len(self.std)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ConfigError(
                f"preprocessing.mean = {list(self.mean)} and std = {list(self.std)} have to be "
                "finite, and std above 0"
            )
