"""What ``evaluate`` is asked, and what ``evaluate.json`` holds, typed for writer and reader.

Paths are those of the machine that wrote it. Classes are indices; -1 is that of outputs that are
not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swin_deploy.core.errors import Checked, ConfigError, SwinDeployError, caught, wrong_counts
from swin_deploy.core.records import Count, Interval, Number, Reasons, Rows, Share, Text, finite
from swin_deploy.data.classes import WITHOUT_LABELS
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.samples import require_count
from swin_deploy.data.targets import require_targets
from swin_deploy.engine.here import Machine
from swin_deploy.measure.bench.subject import look_at
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import Preprocessing, Task
from swin_deploy.run.finished import find_run

KIND = "evaluate"
SCHEMA_VERSION = 1
Change = Literal["worse", "better", "wrong"]  # of the class that is named; both are wrong
CHANGES: tuple[Change, ...] = ("worse", "better", "wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """How many images are right, as a count and a share, and the share's 95 % interval (Wilson)."""

    right: Count
    share: Share
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """An artifact.

    Attributes:
        name: What tables call it.
        path: What it was found by.
        precision: Of its graph.
        sha256: Of its files, sorted.
        top1: Images of which the best class is right.
        top5: Of which one of the best five is; None where it gives fewer.
        not_finite: Images for which its outputs are not.
    """

    name: Text
    path: Text
    precision: Text
    sha256: Rows[Text]
    top1: Right
    top5: Right | None
    not_finite: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Confused:
    """How many images one artifact says are of the class ``a``, and the other of ``b``."""

    a: int
    b: int
    images: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An image on which two artifacts disagree, its class, and those that they name."""

    image: Text
    label: int
    a: int
    b: int
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two artifacts on the same images.

    Attributes:
        a: The first of all.
        b: The other.
        both_right: Images; only_a_right, only_b_right and both_wrong are the others.
        drop_points: Top-1 of a less that of b, in percentage points.
        interval_points: Its 95 % interval.
        p_value: Of ``statistics.mcnemar``.
        disagreements: Images where they name different classes.
        confusion: The classes that are named differently, the most frequent first.
        flips: The images that are, those first that only a gets right.
    """

    a: Text
    b: Text
    both_right: Count
    only_a_right: Count
    only_b_right: Count
    both_wrong: Count
    drop_points: Number
    interval_points: Interval
    p_value: Share
    disagreements: Count
    confusion: Rows[Confused]
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A photo that cannot be read, and why."""

    image: Text
    problem: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateIdentity:
    """All that the outputs of an artifact depend on, but for packages; ``files`` are hashes."""

    name: Text
    precision: Text
    files: Rows[Text]
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesIdentity:
    """All that images and labels depend on, as ``LabelledSet.identity`` has it."""

    images: Text
    count: Count
    seed: int | None
    size: tuple[Count, Count]
    preprocessing: Preprocessing
    pillow: Text | None
    labels: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Images at a time, threads of every worker, and photos in a shard."""

    batch: Count
    threads: Count
    shard: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """All that the results depend on; ``source`` is the digest of this package's code."""

    artifacts: Rows[CandidateIdentity]
    images: Rows[ImagesIdentity]
    settings: Settings
    packages: dict[Text, Text | None]
    source: Text

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return finite(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Who did the shards that were left to do, and how fast.

    Attributes:
        by: Kind of workers.
        workers: How many.
        images: That were left.
        seconds: That these took.
        images_per_s: None where none were left.
        lost: What was said of workers that were lost.
        machine: Of who handed out the work.
    """

    by: Text
    workers: Count
    images: Count
    seconds: Number
    images_per_s: Number | None
    lost: Rows[Text]
    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateReport:
    """``evaluate.json``.

    Attributes:
        data: Where the photos are.
        images: How many were evaluated.
        found: How many there are.
        classes: How many the artifacts know.
        class_names: By index; empty where they are not known.
        left_out: Photos that cannot be read.
        artifacts: The first is what the others are compared with.
        pairs: The others, each with the first.
        not_run: Engine -> why it cannot run on this machine.
        predictions_sha256: Of all that all artifacts named.
        report: Where it was written.
        notes: What the user has to know.
        identity: What all of it depends on, but for the work.
        work: Who did it.
    """

    data: Text
    images: Count
    found: Count
    classes: Count
    class_names: tuple[Text, ...]
    left_out: Rows[LeftOut]
    artifacts: Rows[Evaluated]
    pairs: Rows[Pair]
    not_run: Reasons
    predictions_sha256: Text
    report: Text
    notes: Rows[Text]
    identity: Identity
    work: Effort

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``evaluate --json``."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **finite(asdict(self))}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest(Checked):
    """One evaluation; fields are the options of ``evaluate``, here what its help does not say.

    Attributes:
        labels: A list of photos in the folder ``data``, with their labels.
        class_map: As ``read_class_map`` reads it.
        limit: None for all.
        batch: Less for an artifact that takes no more.
        workers: Or actors on Ray; None for one, or as many as the cluster has room for.
        threshold: Probability from which a label of a multi-label network is said to hold; None
            for 0.5.
        out: None for ``evaluate.json`` in the first run; for ``scores.json`` where its outputs are
            no classes of which one is right.
    """

    artifacts: tuple[Path, ...]
    data: Path
    labels: Path | None = None
    class_map: Path | None = None
    sorted_folders: bool = False
    eager: bool = False
    limit: int | None = None
    seed: int = 0
    batch: int = 16
    threads: int = 1
    workers: int | None = None
    ray: str | None = None
    threshold: float | None = None
    variant: Variant | None = None
    out: Path | None = None

    @property
    def task(self) -> Task:
        """What the outputs of the first run mean; single-label where none is a run."""
        runs = filter(None, map(find_run, self.artifacts))
        return next((run.interface.task for run in runs), "single-label")

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        if not self.artifacts:
            yield ConfigError("no artifact was named", "swin-deploy evaluate RUN --data PHOTOS")
        yield from wrong_counts(batch=self.batch, threads=self.threads, workers=self.workers)
        yield from caught(require_count, "measurement", self.limit, self.seed)
        if self.sorted_folders and self.class_map is not None:
            yield ConfigError(
                "--sorted-folders and --class-map both say which folder is which class",
                "one of them",
            )

    def missing(self) -> Iterator[SwinDeployError]:
        """What a look finds wrong with the artifacts and the photos."""
        for path in self.artifacts:
            yield from caught(look_at, path, None if find_run(path) else self.variant)
        if self.task != "single-label":
            yield from self._missing_targets()
            return
        if self.threshold is not None:
            yield ConfigError(
                "--threshold is of labels that each hold or not, and here one class is right",
                "no --threshold, or a run with --task multi-label",
            )
        look = partial(
            require_labelled,
            self.data,
            sorted_folders=self.sorted_folders,
            labels=self.labels,
            class_map=self.class_map,
        )
        yield from map(without_alternative, caught(look))

    def _missing_targets(self) -> Iterator[SwinDeployError]:
        yield from caught(require_targets, self.data, self.task, self.labels)
        if self.class_map is not None or self.sorted_folders:
            option = "--class-map" if self.sorted_folders is False else "--sorted-folders"
            yield ConfigError(
                f"{option} is of classes of which one is right, and this network is {self.task}",
                f"no {option}",
            )
        if self.threshold is not None and self.task != "multi-label":
            yield ConfigError(
                f"--threshold is of labels that each hold or not, and this network is {self.task}",
                "no --threshold",
            )


def without_alternative(error: SwinDeployError) -> SwinDeployError:
    """The same without the hint to leave labels out: this command does nothing without them."""
    if not error.hint.endswith(WITHOUT_LABELS):
        return error
    hint = error.hint.removesuffix(WITHOUT_LABELS).removesuffix("; ")
    return type(error)(error.problem, hint, error.details)
