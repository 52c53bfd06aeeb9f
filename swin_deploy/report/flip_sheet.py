"""Contact sheets of the images that two artifacts name differently."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from swin_deploy.data.images import FORMATS
from swin_deploy.errors import InputError
from swin_deploy.files import atomic_path
from swin_deploy.report.measured_tables import class_text

MOST = 60  # images on a sheet
_COLUMNS, _SIDE, _EDGE, _GAP, _LINE, _FONT = 6, 160, 4, 14, 17, 13  # pixels, but for columns
_LINES = 4  # below an image
_INK, _FAINT = "#202020", "#6b6b6b"
_COLOURS = {"worse": "#c62828", "better": "#2e7d32", "wrong": "#8a8a8a"}
_TITLES = {"worse": "B is worse", "better": "B is better", "wrong": "both are wrong"}


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
    for number, (text, colour) in enumerate(lines):
        fitted = _fit(text, font, size[0] - 2 * _GAP)
        pen.text((_GAP, _GAP + number * _LINE), fitted, colour, font)
    at = float(_GAP)
    for change, colour in _COLOURS.items():
        count = sum(flip["change"] == change for flip in pair["flips"])
        pen.text((at, _GAP + 3 * _LINE), f"{_TITLES[change]}: {count}", colour, font)
        at += font.getlength(f"{_TITLES[change]}: {count}") + 2 * _GAP
    for number, flip in enumerate(flips):
        left = _GAP + number % columns * (cell + _GAP)
        top = head + number // columns * row_height
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
        for line, (text, ink) in enumerate(captions):
            below = (left, top + cell + 2 + line * _LINE)
            pen.text(below, _fit(text, font, cell, keep_end=line == 3), ink, font)
    return sheet


def _thumbnail(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as file:
            photo = ImageOps.exif_transpose(file).convert("RGB")
    except OSError as error:
        raise InputError(f"{path} cannot be read as a photo: {error}") from error
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
