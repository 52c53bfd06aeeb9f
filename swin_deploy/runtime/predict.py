"""Photos from files, folders and lists -> their best classes, as a table, CSV, JSON or pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

from swin_deploy.core.errors import InputError, caught, raise_all
from swin_deploy.core.files import atomic_path, require_outside, require_writable
from swin_deploy.data.images import MAX_UNREADABLE, list_photos, load_upright
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.images import Prediction
from swin_deploy.runtime.trust import require_bundle

if TYPE_CHECKING:
    from PIL import Image, ImageDraw


STDIN = "-"  # in place of a path: a list of paths, one a line, on standard input


@dataclass(frozen=True, slots=True)
class Guess:
    """One class of a photo: its number, its name, and the score as ``Prediction`` has it."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """The best classes of one photo, best first."""

    photo: Path
    best: tuple[Guess, ...]
    probabilities: bool


def expand_sources(sources: Sequence[str], stdin: TextIO) -> list[Path]:
    """The photos that are meant, in order.

    Args:
        sources: Files; folders, whose photos are taken, sub-folders included; or "-".
        stdin: What "-" reads.
    """
    photos: list[Path] = []
    for source in sources:
        if source == STDIN:
            lines = (line.rstrip("\r\n") for line in stdin)
            photos += [Path(line) for line in lines if line.strip()]
        elif Path(source).is_dir():
            photos += list_photos(Path(source))
        else:
            photos.append(Path(source))
    if not photos:
        raise InputError("there are no photos", "files, folders, or - and a list of paths")
    if not any(map(os.path.lexists, photos)):
        more = f", nor do {len(photos) - 1} others" if len(photos) > 1 else ""
        raise InputError(f"{photos[0]} does not exist{more}", "files that exist")
    return photos


def predict_photos(
    engine: SwinEngine, photos: Sequence[Path], k: int, note: Callable[[str], None]
) -> Iterator[PhotoResult]:
    """Classify photos, as many at a time as the engine takes, in order.

    Args:
        engine: Open.
        photos: All of them.
        k: So many classes of each.
        note: Told of every photo that cannot be read, and why.
    """
    bad = 0
    for start in range(0, len(photos), engine.batch):
        paths, tensors = [], []
        for path in photos[start : start + engine.batch]:
            try:
                tensors.append(engine.prepare(path))
            except InputError as error:
                if len(photos) == 1:
                    raise
                bad += 1
                note(f"left out: {error.problem}")
                continue
            paths.append(path)
        if paths:
            prediction = engine(np.concatenate(tensors), k)
            for row, path in enumerate(paths):
                yield PhotoResult(path, _guesses(prediction, row), prediction.probabilities)
    if bad == len(photos) or bad > MAX_UNREADABLE * len(photos):  # why was told of each
        raise InputError(f"{bad} of {len(photos)} photos cannot be read", "leave them out")


def _guesses(prediction: Prediction, row: int) -> tuple[Guess, ...]:
    columns = zip(
        prediction.classes[row].tolist(),
        prediction.labels[row],
        prediction.scores[row].tolist(),
        strict=True,
    )
    return tuple(Guess(*one) for one in columns)


Format = Literal["table", "csv", "jsonl"]
LINE_FORMATS: tuple[Format, ...] = ("table", "csv", "jsonl")
_COLUMNS = ("photo", "rank", "class", "label", "score")


def format_results(results: Iterable[PhotoResult], form: Format) -> Iterator[str]:
    """Lines to print, as the results come."""
    if form == "csv":
        yield _csv_line(_COLUMNS)
    for result in results:
        if form == "jsonl":
            yield json.dumps(
                {
                    "photo": str(result.photo),
                    "probabilities": result.probabilities,
                    "best": [asdict(guess) for guess in result.best],
                }
            )
        elif form == "csv":
            for rank, guess in enumerate(result.best, start=1):
                row = (result.photo, rank, guess.index, guess.label, f"{guess.score:.6g}")
                yield _csv_line(tuple(map(str, row)))
        else:
            yield from _table(result)


def score_text(score: float, probabilities: bool) -> str:
    """A probability in percent, or a logit."""
    return f"{score:.2%}" if probabilities else f"{score:.3f}"


def _table(result: PhotoResult) -> Iterator[str]:
    yield printable(str(result.photo))
    for guess in result.best:
        name = "" if guess.label == str(guess.index) else printable(guess.label)
        score = score_text(guess.score, result.probabilities)
        yield f"  {score:>8}  {guess.index:>5}  {name}".rstrip()


def _csv_line(row: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([_encodable(cell) for cell in row])
    return line.getvalue()


def printable(text: str) -> str:
    """A name on one line, whatever bytes it is made of."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in _encodable(text))


def _encodable(text: str) -> str:
    """File names may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def comparison_lines(comparisons: Sequence[dict[str, Any]]) -> list[str]:
    """The rows of a verification, as ``Verification.as_dict`` has them, as lines of a table."""
    rows = [("candidate", "inputs", "output", "dB", "floor", "max error", "top-1", "")]
    for row in comparisons:
        agreement = row["top1_agreement"]
        rows.append(
            (
                printable(str(row["candidate"])),
                str(row["inputs"]),
                str(row["output"]),
                "none" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}",
                "none" if row["floor_db"] is None else f"{row['floor_db']:.0f}",
                "none" if row["max_abs_error"] is None else f"{row['max_abs_error']:.1e}",
                "" if agreement is None else f"{agreement:.0%}",
                "ok" if row["passed"] else f"FAILED: {row['reason']}",
            )
        )
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, with each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


_LONGEST, _NARROWEST = 1280, 480  # pixels: larger photos are made smaller, smaller ones larger
_INK, _FAINT, _PAPER = (28, 30, 34), (228, 232, 238), (255, 255, 255)
_BEST, _OTHER = (37, 99, 205), (148, 176, 222)  # of the bars


def annotate(result: PhotoResult, folder: Path, used: set[str]) -> Path:
    """Write a photo with its best classes below it into ``folder``, as PNG.

    Args:
        result: Of ``predict_photos``.
        folder: Made if need be.
        used: Names that this run has written; gets another one.
    """
    photo = load_upright(result.photo)
    name, number = f"{result.photo.name}.labels.png", 1
    while name in used:
        number += 1
        name = f"{result.photo.name}.labels-{number}.png"
    used.add(name)
    picture = draw(_fit(photo), result)
    with atomic_path(folder / name) as scratch:
        picture.save(scratch, format="PNG")
    return folder / name


def draw(photo: Image.Image, result: PhotoResult) -> Image.Image:
    """The photo above a bar for each class, with its name and score."""
    from PIL import Image, ImageDraw

    width = max(photo.width, _NARROWEST)
    row = width // 22
    font, margin = _font(round(row * 0.62)), row // 2
    panel = row * len(result.best) + 2 * margin
    picture = Image.new("RGB", (width, photo.height + panel), _PAPER)
    picture.paste(photo, ((width - photo.width) // 2, 0))
    pen = ImageDraw.Draw(picture)
    left, right = round(width * 0.52), width - margin - row * 3
    largest = max(abs(guess.score) for guess in result.best) or 1.0
    for index, guess in enumerate(result.best):
        top = photo.height + margin + index * row
        middle = top + row // 2
        label = _shorten(printable(guess.label), pen, font, left - 2 * margin)
        _write(pen, (margin, middle), label, font)
        score = score_text(guess.score, result.probabilities)
        _write(pen, (width - margin - _width(pen, score, font), middle), score, font)
        bar = (left, top + row // 5, right, top + row - row // 5)
        pen.rectangle(bar, fill=_FAINT)
        share = guess.score if result.probabilities else max(0.0, guess.score) / largest
        end = left + round((right - left) * min(1.0, share))
        if end > left:
            pen.rectangle((*bar[:2], end, bar[3]), fill=_OTHER if index else _BEST)
    return picture


def _fit(photo: Image.Image) -> Image.Image:
    scale = min(_LONGEST / max(photo.size), max(1.0, _NARROWEST / photo.width))
    if scale == 1:
        return photo
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    nearest, bicubic = 0, 3  # Pillow's numbers of them
    return photo.resize(size, nearest if scale >= 4 else bicubic)


def _font(size: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1 it takes no size; Ubuntu has this one
        pass
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:  # a small one, which every Pillow has
        return ImageFont.load_default()


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Any) -> None:
    """Text that begins at a place, in the middle of its height."""
    from PIL import ImageFont

    if isinstance(font, ImageFont.FreeTypeFont):
        pen.text(place, text, fill=_INK, font=font, anchor="lm")
    else:  # bitmap fonts have no anchors
        pen.text((place[0], place[1] - 5), text.encode("latin-1", "replace"), fill=_INK, font=font)


def _width(pen: ImageDraw.ImageDraw, text: str, font: Any) -> int:
    from PIL import ImageFont

    if isinstance(font, ImageFont.FreeTypeFont):
        return round(pen.textlength(text, font=font))
    return round(pen.textlength(text.encode("latin-1", "replace").decode("latin-1"), font=font))


def _shorten(text: str, pen: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    if _width(pen, text, font) <= width:
        return text
    while text and _width(pen, f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."


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
            annotate(result, pictures, used)
        yield result
