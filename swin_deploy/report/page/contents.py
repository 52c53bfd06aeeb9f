"""What the JSON files of runs hold, as far as a report shows it; anything else is refused.

A file may come from another machine, so every field is checked before it is used. Fields that a
report does not show are passed over, so that a newer version may add some.
"""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.machine import Machine
from swin_deploy.records import (
    Batch,
    Count,
    Number,
    Positive,
    Rows,
    Share,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthPoint:
    """A network at one image size, of ``scaling.json``."""

    network: Text
    area: Count
    batch: Batch
    time_ms: Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthFit:
    """The exponent of a cost in the image's area or in the batch."""

    network: Text
    axis: Text
    cost: Text
    exponent: Number
    low: Number | None = None
    high: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """``scaling.json``."""

    runtime: Text
    threads: Count
    points: Rows[GrowthPoint]
    fits: Rows[GrowthFit]
    machine: Machine
    notes: Rows[Text] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place of ``sensitivity.json``: what it alone does in INT8; dB of all images, and the worst.

    A number of dB that is None is that of equal outputs.
    """

    name: Text
    kind: Text
    mean_sqnr_db: Number | None
    sqnr_db: Number | None
    agreement: Share
    drop_points: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """The fewest places that were found to be left out of INT8; ``left`` has their pairs too."""

    max_drop_points: Number | None
    min_sqnr_db: Number | None
    keep: Rows[Text]
    left: Rows[Text]
    quantised: Count
    mean_sqnr_db: Number | None
    sqnr_db: Number | None
    drop_points: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """``sensitivity.json``; its places are in order, the most sensitive first."""

    network: Text
    recipe: Text
    method: Text
    calibration_images: Count
    images: Count
    places: Rows[Place]
    mixed: Mixed | None
    notes: Rows[Text] = ()
