"""``predict``, of the device and of the workstation: the one path from sources to lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from swin_deploy.core.errors import caught, raise_all
from swin_deploy.core.files import require_outside, require_writable
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.formats import Format, format_results, printable
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


def report_photos(
    engine: SwinEngine, photos: Sequence[Path], top: int, form: Format, pictures: Path | None
) -> None:
    """Print the best classes of photos on standard output, as they come.

    Args:
        engine: Open.
        photos: As ``find_work`` gives them.
        top: So many classes of each.
        form: Of the lines.
        pictures: A folder for pictures with the classes below them; None for none.
    """
    results = predict_photos(
        engine, photos, top, lambda text: print(f"note: {printable(text)}", file=sys.stderr)
    )
    for line in format_results(_drawn(results, pictures), form):
        print(line)


def _drawn(results: Iterator[PhotoResult], pictures: Path | None) -> Iterator[PhotoResult]:
    used: set[str] = set()
    for result in results:
        if pictures is not None:
            from swin_deploy.runtime.annotate import annotate

            annotate(result, pictures, used)
        yield result
