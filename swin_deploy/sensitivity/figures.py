"""Measurements as the report has them."""

from __future__ import annotations

from typing import Any

from swin_deploy.graph.int8.sensitivity import Effect
from swin_deploy.metrics import wilson_interval


def describe_accuracy(right: int | None, images: int) -> dict[str, Any]:
    """Top-1 accuracy, 0 to 1, and its 95 % interval; nulls without labels."""
    if right is None:
        return {"right": None, "accuracy": None, "interval": None}
    return {
        "right": right,
        "accuracy": right / images,
        "interval": list(wilson_interval(right, images)),
    }


def describe_effect(effect: Effect, images: int, right: int | None) -> dict[str, Any]:
    """An effect on so many images, of which FP32 names so many rightly.

    "drop_points" are percentage points of top-1 accuracy that are lost.
    """
    drop = None
    if effect.right is not None and right is not None:
        drop = 100 * (right - effect.right) / images
    return (
        effect.as_dict()
        | {"agreement": effect.agreeing / images, "drop_points": drop}
        | describe_accuracy(effect.right, images)
    )
