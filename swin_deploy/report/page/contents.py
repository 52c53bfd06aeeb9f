"""What the JSON files of runs hold, as far as a report shows it; anything else is refused.

A file may come from another machine, so every field is checked before it is used. Fields that a
report does not show are passed over, so that a newer version may add some.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swin_deploy.machine import Machine
from swin_deploy.records import (
    Batch,
    Count,
    Interval,
    Number,
    Positive,
    Reasons,
    Rows,
    Share,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """How many images are right, as a count and a share, and the share's 95 % interval."""

    right: Count
    share: Share
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """An artifact of ``evaluate.json``; ``sha256`` are those of its files."""

    name: Text
    path: Text = ""
    sha256: Rows[Text] = ()
    top1: Right
    top5: Right | None = None
    not_finite: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two artifacts of ``evaluate.json`` on the same images; points are percentage points."""

    a: Text
    b: Text
    drop_points: Number
    interval_points: Interval
    p_value: Share
    only_a_right: Count
    only_b_right: Count
    disagreements: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Who evaluated."""

    machine: Machine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sample of photos that an evaluation took."""

    count: Count
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """Images at a time, and threads of every worker."""

    batch: Count
    threads: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationIdentity:
    """What an evaluation depends on."""

    images: Rows[Sampled] = ()
    settings: WorkSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """``evaluate.json``; ``report`` is where it was written, ``found`` how many photos there are.

    Paths are those of the machine that wrote it.
    """

    data: Text
    report: Text = ""
    images: Count
    found: Count = 0
    identity: EvaluationIdentity = field(default_factory=EvaluationIdentity)
    artifacts: Rows[Accuracy]
    pairs: Rows[Pair]
    notes: Rows[Text] = ()
    not_run: Reasons = field(default_factory=dict)
    work: Work = field(default_factory=Work)


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
