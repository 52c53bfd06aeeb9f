"""What an evaluation is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from swin_deploy.bench.subject import look_at
from swin_deploy.counts import wrong_counts
from swin_deploy.data.classes import WITHOUT_LABELS
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.sample import require_count
from swin_deploy.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.run.finished import find_run
from swin_deploy.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """One evaluation; fields are the options of ``evaluate``, here what its help does not say.

    Attributes:
        labels: A list of photos in the folder ``data``, with their labels.
        class_map: As ``read_class_map`` reads it.
        limit: None for all.
        batch: Less for an artifact that takes no more.
        workers: Or actors on Ray; None for one, or as many as the cluster has room for.
        out: None for ``evaluate.json`` in the first run.

    Raises:
        ConfigError: A setting means nothing, or two of them contradict each other.
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
    variant: Variant | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        raise_all(self.problems())

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
        look = partial(
            require_labelled,
            self.data,
            sorted_folders=self.sorted_folders,
            labels=self.labels,
            class_map=self.class_map,
        )
        yield from map(without_alternative, caught(look))


def without_alternative(error: SwinDeployError) -> SwinDeployError:
    """The same without the hint to leave labels out: this command does nothing without them."""
    if not error.hint.endswith(WITHOUT_LABELS):
        return error
    hint = error.hint.removesuffix(WITHOUT_LABELS).removesuffix("; ")
    return type(error)(error.problem, hint, error.details)
