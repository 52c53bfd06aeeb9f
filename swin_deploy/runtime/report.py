"""``predict``, of the device and of the workstation: the one path from sources to lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from swin_deploy.core.errors import ConfigError, caught, raise_all
from swin_deploy.core.files import require_outside, require_writable
from swin_deploy.network.interface import Task
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.formats import THRESHOLD, Format, format_results, printable
from swin_deploy.runtime.predict import PhotoResult, expand_sources, predict_photos
from swin_deploy.runtime.trust import require_bundle


def find_work(bundle: Path, sources: Sequence[str], pictures: Path | None) -> list[Path]:
    """The photos to classify, and a look at where pictures go, before an engine is opened.

    Args:
        bundle: Its folder.
        sources: As ``expand_sources`` takes them.
        pictures: As of ``report_photos``.
    """
    photos: list[Path] = []
    looks = (
        caught(require_bundle, bundle),
        caught(require_outside, pictures, bundle, "--annotate with a folder elsewhere"),
        caught(lambda: photos.extend(expand_sources(sources, sys.stdin))),
    )
    raise_all(chain(*looks))
    if pictures is not None:
        require_writable(pictures, "--annotate with a folder that you own")
    return photos


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is told of photos, and how.

    Attributes:
        top: So many classes of each; None for 5, or for all labels where each holds or not.
        threshold: Probability from which such a label holds; None for ``THRESHOLD``.
        form: Of the lines.
        pictures: A folder for pictures with the classes below them; None for none.
    """

    top: int | None = None
    threshold: float | None = None
    form: Format = "table"
    pictures: Path | None = None

    def require_fit(self, task: Task) -> None:
        """ConfigError where something is asked for that outputs of such a meaning do not have."""
        if self.threshold is not None and task != "multi-label":
            raise ConfigError(
                f"--threshold is of labels that each hold or not, and this network is {task}",
                "no --threshold, or an export with --task multi-label",
            )
        if self.top is not None and task == "regression":
            raise ConfigError("--top is of classes, and this network gives numbers", "no --top")


def report_photos(engine: SwinEngine, photos: Sequence[Path], telling: Telling) -> None:
    """Print what the outputs say of photos on standard output, as they come.

    Args:
        engine: Open.
        photos: As ``find_work`` gives them.
        telling: What of it.
    """
    task = engine.shipped.interface.task
    telling.require_fit(task)
    results = predict_photos(
        engine, photos, telling.top, lambda text: print(f"note: {printable(text)}", file=sys.stderr)
    )
    threshold = THRESHOLD if telling.threshold is None else telling.threshold
    for line in format_results(_drawn(results, telling.pictures), telling.form, task, threshold):
        print(line)


def _drawn(results: Iterator[PhotoResult], pictures: Path | None) -> Iterator[PhotoResult]:
    used: set[str] = set()
    for result in results:
        if pictures is not None:
            from swin_deploy.runtime.annotate import annotate

            annotate(result, pictures, used)
        yield result
