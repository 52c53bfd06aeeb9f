"""What ``sensitivity.json`` and its journal hold: who writes and who reads has these classes.

Decibels are None where the logits are equal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swin_deploy.records import Count, Interval, Number, Rows, Share, Text, finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """FP32: images, and how many of them are right, None without labels.

    Attributes:
        left_out: A line for every photo that was named and could not be read.
    """

    images: Count
    right: Count | None
    left_out: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow:
    """What ``graph.int8.sensitivity.Effect`` comes to, which says what the parts are."""

    sqnr_db: Number | None
    mean_sqnr_db: Number | None
    agreeing: Count
    right: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Top-1 accuracy and its 95 % interval (Wilson); None without labels."""

    right: Count | None
    accuracy: Share | None
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures(EffectRow):
    """An effect as shares of the images; the last three are None without labels.

    Attributes:
        agreement: Of those for which FP32 names the same class.
        drop_points: Percentage points of top-1 that are lost.
        accuracy: As of ``Accuracy``, with its interval.
    """

    agreement: Share
    drop_points: Number | None
    accuracy: Share | None
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Figures):
    """What a place alone does in INT8; ``order`` is that in which places run."""

    name: Text
    kind: Text
    order: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of an engine; bytes are None where the batch is dynamic."""

    compiler: Text
    kernels: Count
    fused_attentions: Count
    activation_bytes: Count | None
    weight_bytes: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """With all places in INT8, and with some left out, where some are."""

    all: Cost
    mixed: Cost | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed(Figures):
    """The fewest places that were found to be left out of INT8 for a goal.

    Attributes:
        max_drop_points: The goal; None where it is ``min_sqnr_db``.
        keep: What was found.
        left: The same with their pairs.
        quantised: Places that are.
        placements_tried: By the search.
        cost: None where nothing was compiled.
    """

    max_drop_points: Number | None
    min_sqnr_db: Number | None
    keep: Rows[Text]
    left: Rows[Text]
    quantised: Count
    placements_tried: Count
    cost: Costs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityReport:
    """``sensitivity.json``, but for the journal that it has, too.

    Attributes:
        network: Its name.
        run: The folder, as it was named.
        recipe: The runtime whose places these are.
        method: Of calibration.
        calibration_images: How many.
        images: On how many was measured.
        fp32: Its accuracy.
        places: The most sensitive first.
        all: All of them together.
        mixed: What the search found; None where no goal was set.
        notes: What the user has to know.
    """

    network: Text
    run: Text
    recipe: Text
    method: Text
    calibration_images: Count
    images: Count
    fp32: Accuracy
    places: Rows[Place]
    all: Figures
    mixed: Mixed | None
    notes: Rows[Text]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``sensitivity --json``."""
        return finite(asdict(self))  # type: ignore[no-any-return]
