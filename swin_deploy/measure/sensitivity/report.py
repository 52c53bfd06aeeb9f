"""What ``sensitivity`` is asked, and what ``sensitivity.json`` and its journal hold, typed.

Decibels are None where the logits are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swin_deploy.core.errors import Checked, ConfigError, SwinDeployError, caught, wrong_counts
from swin_deploy.core.records import Count, Interval, Number, Rows, Share, Text, finite
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.samples import require_count, require_images
from swin_deploy.graph.int8 import CalibrationMethod, require_method
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.run.finished import require_run


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
    """What ``graph.int8.probe.Effect`` comes to, which says what the parts are."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRequest(Checked):
    """One measurement, and the search that may follow it.

    Fields are the options of ``sensitivity``; here is what its help does not say.

    Attributes:
        count: None for all images.
        images: None for the labelled ones, or else for those of the calibration.
        max_drop: Percentage points; None for no search.
        min_sqnr_db: None for no search.
        workers: Or actors on Ray; None for one, or as many as the cluster has room for.
        out: None for ``sensitivity.json`` in the run folder.
    """

    run: Path
    calibration: Path
    count: int | None = None
    seed: int = 0
    method: CalibrationMethod = "percentile"
    images: Path | None = None
    labelled: Path | None = None
    sorted_folders: bool = False
    kind: str = "tensorrt"
    also: tuple[Literal["embed", "head"], ...] = ()
    max_drop: float | None = None
    min_sqnr_db: float | None = None
    threads: int = 1
    workers: int | None = None
    ray: str | None = None
    out: Path | None = None

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        yield from wrong_counts(threads=self.threads, workers=self.workers)
        yield from caught(require_count, "calibration", self.count, self.seed)
        if self.kind not in RECIPES:
            yield ConfigError(f"no recipe for {self.kind!r}", " or ".join(RECIPES))
        yield from caught(require_method, self.method)
        if self.images is not None and self.labelled is not None:
            yield ConfigError(
                "--images and --labelled both name images to measure on", "one of them"
            )
        if self.sorted_folders and self.labelled is None:
            yield ConfigError("--sorted-folders is about labels", "--labelled DIR --sorted-folders")
        if self.max_drop is not None and self.min_sqnr_db is not None:
            yield ConfigError("--max-drop and --min-sqnr are two goals", "one of them")
        if self.max_drop is not None and self.labelled is None:
            yield ConfigError(
                "--max-drop is about top-1, which takes labels",
                "--labelled with labelled photos, or --min-sqnr DB without labels",
            )
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            yield ConfigError(f"--max-drop {self.max_drop:g} is not from 0 to 100 points")
        if self.min_sqnr_db is not None and not math.isfinite(self.min_sqnr_db):
            yield ConfigError(f"--min-sqnr {self.min_sqnr_db:g} is no number of dB")

    def missing(self) -> Iterator[SwinDeployError]:
        """What a look finds wrong with the run and the images."""
        yield from caught(require_run, self.run)
        yield from caught(require_images, self.calibration, "calibration")
        if self.images is not None:
            yield from caught(require_images, self.images, "measurement")
        if self.labelled is not None:
            look = partial(require_labelled, self.labelled, sorted_folders=self.sorted_folders)
            yield from caught(look)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.out or self.run / "sensitivity.json"
