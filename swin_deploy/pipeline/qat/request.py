"""What a fine-tuning is asked to do, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import (
    Checked,
    ConfigError,
    SwinDeployError,
    caught,
    present,
    wrong_seed,
)
from swin_deploy.core.files import require_outside
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.samples import require_images
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.network.catalogue import Variant, require_size
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.request import Int8Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Checked):
    """How to train; fields are options of ``qat``, here what its help does not say.

    Attributes:
        rate: Half a cosine takes it down to 0.
        batch: Images of a step.
        decay: Weight decay of AdamW, on matrices alone.
    """

    epochs: int = 3
    rate: float = 1e-5
    batch: int = 64
    decay: float = 0.01
    distil: bool = True
    seed: int = 0

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        if self.epochs < 1 or self.batch < 1:
            yield ConfigError(f"{self.epochs} epochs in batches of {self.batch}", "at least 1")
        if not (math.isfinite(self.rate) and self.rate > 0):
            yield ConfigError(f"learning rate {self.rate} is not above 0", "--lr 1e-5")
        if not (math.isfinite(self.decay) and self.decay >= 0):
            yield ConfigError(f"weight decay {self.decay} is not 0 or more")
        yield from wrong_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class QatOptions(Checked):
    """What is said of a fine-tuning whatever the network turns out to be.

    Fields are the options of ``qat``; here is what its help does not say.

    Attributes:
        kind: Decides on recipe and form.
        val: None to measure no accuracy.
        headroom: Thresholds are multiplied by it: 1, but to show what coarse scales do.
    """

    data: Path
    int8: Int8Options
    out: Path
    kind: str = "tensorrt"
    val: Path | None = None
    batch: BatchRange = field(default_factory=BatchRange)
    headroom: float = 1.0
    training: Training = Training()
    wait_s: float = 0

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        if self.kind not in RECIPES:
            yield ConfigError(f"no recipe for {self.kind!r}", f"one of {', '.join(RECIPES)}")
        if self.int8.calibration is None:
            yield ConfigError("INT8 needs images to calibrate on", "--calibration DIR")
        if not (math.isfinite(self.headroom) and self.headroom > 0):
            yield ConfigError(f"headroom {self.headroom} is not above 0")

    def missing(self) -> Iterator[SwinDeployError]:
        """What a look finds wrong with its photos, and where its results shall go."""
        calibration = present(self.int8.calibration)  # or it would not have been made
        yield from caught(require_images, calibration, "calibration")
        for source in (self.data, self.val):
            if source is not None:
                yield from caught(require_labelled, source)
                yield from caught(
                    require_outside, self.out, source, "--out with a folder elsewhere"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class QatRequest(QatOptions):
    """One fine-tuning, of a checkpoint as ``ExportRequest`` names it."""

    variant: Variant
    weights: Path
    load: LoadOptions = field(default_factory=LoadOptions)
    provenance: dict[str, str] = field(default_factory=lambda: {"source": "file"})
    labels: tuple[str, ...] = ()

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        yield from QatOptions.problems(self)
        if not self.variant.config.num_classes:
            yield ConfigError(
                f"{self.variant.name} has no head, so that there is nothing to learn from labels",
                "a checkpoint of a classifier",
            )
        yield from caught(require_size, self.variant.config)

    def settings(self) -> dict[str, Any]:
        """All of it that the results depend on, but for files; JSON-able."""
        return {
            "config": asdict(self.variant.config),
            "preprocessing": asdict(self.variant.preprocessing),
            "kind": self.kind,
            "batch": str(self.batch),
            "method": self.int8.method,
            "keep": list(self.int8.keep),
            "also": list(self.int8.also),
            "headroom": self.headroom,
            "training": asdict(self.training),
        }
