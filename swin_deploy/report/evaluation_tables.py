"""Accuracy on labelled photos: tables, and sheets of photos that two artifacts name differently."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.core.files import atomic_path
from swin_deploy.core.records import decode
from swin_deploy.measure.evaluate.report import Effort, Evaluated, EvaluateReport, Pair, Right
from swin_deploy.report.tables import (
    Cell,
    Columns,
    Part,
    Table,
    alone,
    number,
    tabulate,
    text,
    within,
)

if TYPE_CHECKING:
    from PIL import Image


_CONFUSED = 3  # pairs of classes that have room in a line
_SHOWN = 5  # images that flipped
MOST = 60  # images on a sheet
_COLUMNS, _SIDE, _EDGE, _GAP, _LINE, _FONT = 6, 160, 4, 14, 17, 13  # pixels, but for columns
_LINES = 4  # below an image
_INK, _FAINT = "#202020", "#6b6b6b"
_COLOURS = {"worse": "#c62828", "better": "#2e7d32", "wrong": "#8a8a8a"}
_TITLES = {"worse": "B is worse", "better": "B is better", "wrong": "both are wrong"}


def _share(found: Right | None) -> Cell:
    if found is None:
        return text("")
    low, high = found.interval
    return within(100 * found.share, 100 * low, 100 * high, "{:.2f}".format)


_EVALUATED: Columns[Evaluated] = (
    ("artifact", lambda row: row.name),
    (">top-1 (%, 95 % interval)", lambda row: _share(row.top1)),
    (">top-5 (%, 95 % interval)", lambda row: _share(row.top5)),
    (">right", lambda row: number(row.top1.right, ",d")),
)
_PAIRS: Columns[Pair] = (
    ("artifact", lambda pair: pair.b),
    ("beside", lambda pair: pair.a),
    (
        ">top-1 lost (points, 95 % interval)",
        lambda pair: within(pair.drop_points, *pair.interval_points, "{:+.2f}".format),
    ),
    (">worse", lambda pair: number(pair.only_a_right, ",d")),
    (">better", lambda pair: number(pair.only_b_right, ",d")),
    (">named differently", lambda pair: number(pair.disagreements, ",d")),
    (">McNemar p", lambda pair: number(pair.p_value, ".2g")),
)


def accuracy_tables(
    caption: str, reports: Iterable[tuple[str, EvaluateReport]]
) -> tuple[Table, ...]:
    """A row per artifact, and one for each of the others beside the first."""
    found = list(reports)
    single = [(label, row) for label, report in found for row in report.artifacts]
    pairs = [(label, pair) for label, report in found for pair in report.pairs]
    tables = [tabulate(caption, _EVALUATED, single)] if single else []
    tables += [tabulate("Image by image", _PAIRS, pairs)] if pairs else []
    return tuple(tables)


def evaluation_summary(content: dict[str, Any]) -> Iterator[Part]:
    """Accuracy, what flipped, and who did the work."""
    report = decode(EvaluateReport, content, "report", own=True)
    for table in accuracy_tables(f"{report.images} images of {report.data}", alone([report])):
        yield table
        yield ""
    names = report.class_names
    for pair in report.pairs:
        if pair.confusion:
            most = "; ".join(
                f"{class_text(names, row.a)} as {class_text(names, row.b)} {row.images}"
                for row in pair.confusion[:_CONFUSED]
            )
            yield f"{pair.b} names most often another class: {most}"
        for flip in pair.flips[:_SHOWN]:
            label, a, b = (class_text(names, one) for one in (flip.label, flip.a, flip.b))
            yield f"  {flip.change}: {flip.image} is {label}, was named {a} and is named {b}"
        if len(pair.flips) > _SHOWN:
            yield f"  and {len(pair.flips) - _SHOWN} more, in the report"
    yield effort_words(report.work)
    yield f"report: {report.report}"


def class_text(names: Sequence[str], index: int) -> str:
    """The name of a class, or its number where names are not known."""
    return "none" if index < 0 else names[index] if names else str(index)


def effort_words(work: Effort) -> str:
    """Who did the work, and how fast."""
    rate = f", {work.images_per_s:.0f} images/s" if work.images_per_s else ""
    return f"{work.images} images by {_workers(work)} in {work.seconds:.1f} s{rate}"


def _workers(work: Effort) -> str:
    if work.by == "one process":
        return work.by
    return f"{work.workers} {'workers on Ray' if work.by == 'ray' else 'processes'}"


def draw_flips(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a PNG for every artifact that disagrees with the first, and return their paths.

    Images that only the first gets right come first, framed in red; then those that only the other
    gets right, in green; then those that both get wrong, in grey.
    """
    data = Path(report["data"])
    photos = data if data.is_dir() else data.parent
    drawn = []
    for pair in report["pairs"]:
        if pair["flips"]:
            name = re.sub(r"[^\w.-]+", "-", pair["b"]).strip("-")
            path = folder / f"{name}.png"
            with atomic_path(path) as scratch:
                _sheet(report, pair, photos).save(scratch)
            drawn.append(path)
    return drawn


def _sheet(report: dict[str, Any], pair: dict[str, Any], photos: Path) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    flips = pair["flips"][:MOST]
    columns = min(_COLUMNS, max(4, len(flips)))
    cell = _SIDE + 2 * _EDGE
    row_height = cell + _LINES * _LINE + _GAP
    head = 5 * _LINE + _GAP
    size = (_GAP + columns * (cell + _GAP), head + -(-len(flips) // columns) * row_height + _GAP)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    of = f"{len(flips)} of {len(pair['flips'])}" if len(pair["flips"]) > MOST else str(len(flips))
    lines = [
        (f"A: {pair['a']}", _INK),
        (f"B: {pair['b']}", _INK),
        (f"{of} images of {report['images']} on which they disagree", _FAINT),
    ]
    for place, (words, colour) in enumerate(lines):
        fitted = _fit(words, font, size[0] - 2 * _GAP)
        pen.text((_GAP, _GAP + place * _LINE), fitted, colour, font)
    at = float(_GAP)
    for change, colour in _COLOURS.items():
        count = sum(flip["change"] == change for flip in pair["flips"])
        pen.text((at, _GAP + 3 * _LINE), f"{_TITLES[change]}: {count}", colour, font)
        at += font.getlength(f"{_TITLES[change]}: {count}") + 2 * _GAP
    for place, flip in enumerate(flips):
        left = _GAP + place % columns * (cell + _GAP)
        top = head + place // columns * row_height
        colour = _COLOURS[flip["change"]]
        pen.rectangle((left, top, left + cell - 1, top + cell - 1), outline=colour, width=_EDGE)
        sheet.paste(_thumbnail(photos / flip["image"]), (left + _EDGE, top + _EDGE))
        named = {key: class_text(report["class_names"], flip[key]) for key in ("label", "a", "b")}
        captions = [
            (f"label: {named['label']}", colour),
            (f"A: {named['a']}", _INK),
            (f"B: {named['b']}", _INK),
            (flip["image"], _FAINT),
        ]
        for line, (words, ink) in enumerate(captions):
            below = (left, top + cell + 2 + line * _LINE)
            pen.text(below, _fit(words, font, cell, keep_end=line == 3), ink, font)
    return sheet


def _thumbnail(path: Path) -> Image.Image:
    from PIL import Image, ImageOps

    from swin_deploy.data.images import load_upright

    photo = load_upright(path)
    small = max(photo.size) < _SIDE
    filter_ = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    photo = ImageOps.contain(photo, (_SIDE, _SIDE), filter_)
    return ImageOps.pad(photo, (_SIDE, _SIDE), color="#eeeeee")


def _fit(text: str, font: Any, width: int, keep_end: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider; a path keeps its end.

    Pillow's font has the letters of ASCII alone: accents go, and what is left becomes "?".
    """
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = text.encode("ascii", "replace").decode("ascii")
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[1:] if keep_end else text[:-1]
    return f"...{text}" if keep_end else f"{text}..."
