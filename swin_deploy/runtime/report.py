"""``predict``, of the device and of the workstation: the one path from sources to lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from swin_deploy.files import require_writable
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.formats import Format, format_results, printable
from swin_deploy.runtime.predict import PhotoResult, expand_sources, predict_photos


def report_photos(
    engine: SwinEngine, sources: Sequence[str], top: int, form: Format, pictures: Path | None
) -> None:
    """Print the best classes of photos on standard output, as they come.

    Args:
        engine: Open.
        sources: As ``expand_sources`` takes them.
        top: So many classes of each.
        form: Of the lines.
        pictures: A folder for pictures with the classes below them; None for none.

    Raises:
        FileAccessError: ``pictures`` cannot be written to.
        InputError: As ``predict_photos``, after the rest was printed.
    """
    photos = expand_sources(sources, sys.stdin)
    if pictures is not None:
        require_writable(pictures, "--annotate with a folder that you own")
    results = predict_photos(engine, photos, top, _note)
    for line in format_results(_drawn(results, pictures), form):
        print(line)


def _note(text: str) -> None:
    print(f"note: {printable(text)}", file=sys.stderr)


def _drawn(results: Iterator[PhotoResult], pictures: Path | None) -> Iterator[PhotoResult]:
    used: set[str] = set()
    for result in results:
        if pictures is not None:
            from swin_deploy.runtime.annotate import annotate

            annotate(result, pictures, used)
        yield result
