"""Measurements as the report has them."""

from __future__ import annotations

import math
from dataclasses import asdict

from swin_deploy.graph.int8.sensitivity import Effect
from swin_deploy.metrics import wilson_interval
from swin_deploy.records import finite
from swin_deploy.sensitivity.report import Accuracy, EffectRow, Figures


def effect_row(effect: Effect) -> EffectRow:
    """What a file has of it."""
    return EffectRow(**finite(asdict(effect)))


def effect_of(row: EffectRow) -> Effect:
    """What ``effect_row`` was made of."""
    worst, mean = (
        math.inf if found is None else found for found in (row.sqnr_db, row.mean_sqnr_db)
    )
    return Effect(worst, mean, row.agreeing, row.right)


def describe_accuracy(right: int | None, images: int) -> Accuracy:
    """Top-1 accuracy of so many images."""
    if right is None:
        return Accuracy(right=None, accuracy=None, interval=None)
    interval = wilson_interval(right, images)
    return Accuracy(right=right, accuracy=right / images, interval=interval)


def describe_effect(effect: Effect, images: int, right: int | None) -> Figures:
    """An effect on so many images, of which FP32 names so many rightly."""
    drop = None
    if effect.right is not None and right is not None:
        drop = 100 * (right - effect.right) / images
    accuracy = describe_accuracy(effect.right, images)
    return Figures(
        **asdict(effect_row(effect)),
        accuracy=accuracy.accuracy,
        interval=accuracy.interval,
        agreement=effect.agreeing / images,
        drop_points=drop,
    )
