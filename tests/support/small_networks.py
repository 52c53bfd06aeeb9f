"""Two networks of one input channel, small enough to be measured at several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swin_deploy.measure.scaling.report import ScalingRequest
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import Preprocessing
from swin_deploy.network.swin import SwinConfig
from swin_deploy.network.vit import VitConfig

ONE_CHANNEL = Preprocessing(mean=(0.5,), std=(0.5,))
SWIN = Variant(
    config=SwinConfig(
        name="small_swin",
        patch_size=2,
        in_channels=1,
        embed_dim=16,
        depths=(2, 1),
        num_heads=(1, 2),
        window_size=4,
        num_classes=3,
    ),
    preprocessing=ONE_CHANNEL,
)
VIT = Variant(
    config=VitConfig(
        name="small_vit",
        patch_size=4,
        in_channels=1,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=3,
    ),
    preprocessing=ONE_CHANNEL,
)
SIDES = (16, 32, 64)


def request_of(out: Path, **changes: Any) -> ScalingRequest:
    settings = {"networks": (SWIN, VIT), "sizes": tuple((side, side) for side in SIDES)}
    return ScalingRequest(**settings | {"rounds": 2, "out": out} | changes)
