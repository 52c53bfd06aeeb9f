"""Figures of a page: drawn by matplotlib, coloured by the page, light or dark."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swin_deploy.errors import EnvironmentMissingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES = 4.6  # the width of a telephone, so that the text keeps its size there
# Okabe and Ito (2008): told apart with every common form of colour blindness; page.css has each
# once for light and once for dark. Markers and hatches tell apart what is printed in grey.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = (
    "",
    "///",
    "\\\\\\",
    "---",
    "|||",
    "xxx",
    "+++",
    "//",
    "\\\\",
    "--",
)  # lines: dots take megabytes
# Colours that no figure has otherwise, to be replaced.
TEXT, GRID, FAINT, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {
    TEXT: "currentColor",
    GRID: "var(--grid)",
    FAINT: "var(--faint)",
    PAPER: "var(--card)",
}
_VARIABLES |= {colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)}
_NAME = 54  # characters that have room above a bar


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the page.

    Attributes:
        name: Its id.
        caption: What is to be seen.
        svg: Elements, with no reference to anything outside.
    """

    name: str
    caption: str
    svg: str


def require_matplotlib() -> None:
    """Pass, or raise.

    Raises:
        EnvironmentMissingError: It is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise EnvironmentMissingError(
            "the report's plots need matplotlib, which is not installed",
            "pip install matplotlib jinja2",
        )


def draw(name: str, caption: str, height_inches: float, paint: Callable[[Axes], None]) -> Figure:
    """A figure with one pair of axes.

    Args:
        name: Its id on the page.
        caption: What is to be seen.
        height_inches: Beside ``WIDTH_INCHES``.
        paint: Draws into the axes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style = mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text, in the font of the page
            "svg.hashsalt": "swin-deploy",  # and the same report gives the same bytes
            "font.size": 10,
            "text.parse_math": False,  # names may have dollars
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "axes.edgecolor": FAINT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "hatch.linewidth": 0.6,
        }
    )
    with style, warnings.catch_warnings():
        # The font that measures the text may lack a letter of a name; the page's own draws it.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        canvas = Canvas(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        paint(axes)
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(text, format="svg", metadata=nothing, transparent=True)
    return Figure(name, caption, _for_page(text.getvalue(), name))


def short(text: str, less: int = 0) -> str:
    """A name that has room in a figure, without what no file may hold.

    Args:
        text: The name.
        less: Characters that follow it, and take some of the room.
    """
    room = max(_NAME - less, 8)
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= room else plain[: room - 1] + "…"


def _for_page(text: str, name: str) -> str:
    """The bare element; ids differ from those of other figures, colours are those of the page."""
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL
    )
    text = re.sub(r"\s*\n\s*", " ", text)
    text = re.sub(r"<[^>]*>", lambda tag: _for_page_tag(tag[0], name), text)  # never inside a name
    text = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")]) + text[text.index(">") :]
    return text.replace("<svg", f'<svg role="img" aria-labelledby="{name}-caption"', 1)


def _for_page_tag(tag: str, name: str) -> str:
    tag = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{name}-", tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return tag
