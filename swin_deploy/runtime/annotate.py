"""Pictures with the best classes below them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.core.files import atomic_path
from swin_deploy.data.images import load_upright
from swin_deploy.runtime.formats import printable, score_text
from swin_deploy.runtime.predict import PhotoResult

if TYPE_CHECKING:
    from PIL import Image, ImageDraw


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
