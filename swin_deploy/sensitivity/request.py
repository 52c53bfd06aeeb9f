"""What a measurement of sensitivity is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from swin_deploy.counts import wrong_counts
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.sample import require_count, require_images
from swin_deploy.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.graph.int8.recipe import RECIPES
from swin_deploy.graph.methods import CalibrationMethod, require_method
from swin_deploy.run.finished import require_run


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRequest:
    """One measurement, and the search that may follow it.

    Fields are the options of ``sensitivity``; here is what its help does not say.

    Attributes:
        count: None for all images.
        images: None for the labelled ones, or else for those of the calibration.
        max_drop: Percentage points; None for no search.
        min_sqnr_db: None for no search.
        workers: Or actors on Ray; None for one, or as many as the cluster has room for.
        out: None for ``sensitivity.json`` in the run folder.

    Raises:
        ConfigError: A setting means nothing, or two of them contradict each other.
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

    def __post_init__(self) -> None:
        raise_all(self.problems())

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
