"""What all plots share: colours, one canvas, the same bytes for the same report, and the axes."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError
from swin_deploy.core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    from swin_deploy.measure.verify.report import BisectionReport


FORMATS = (".svg", ".png")
WIDTH_INCHES = 4.6  # of the page: the width of a telephone, so that the text keeps its size there
# Okabe and Ito (2008): told apart with every common form of colour blindness; page.css has each
# once for light and once for dark. Markers and hatches tell apart what is printed in grey.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Lines: dots take megabytes.
HATCHES = ("", "///", "\\\\\\", "---", "|||", "xxx", "+++", "//", "\\\\", "--")
# Colours that no figure has otherwise, to be replaced by those of the page.
TEXT, GRID, FAINT, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {
    TEXT: "currentColor",
    GRID: "var(--grid)",
    FAINT: "var(--faint)",
    PAPER: "var(--card)",
}


_VARIABLES |= {colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)}


_PAGE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": FAINT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": GRID,
    "hatch.linewidth": 0.6,
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "swin-deploy",  # no random names
    "text.parse_math": False,  # names may have dollars
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.7,
}
_NOT_WRITTEN = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # beside an SVG
_DPI = 150
_NAME = 54  # characters that have room above a bar
MAX_ROWS = 18  # that a figure has room for
_ROW_INCHES, _EDGE_INCHES, _LEGEND_INCHES = 0.4, 0.6, 0.2
_EDGE_ROWS = 0.75, 0.4  # above the first row, for its name, and below the last
EQUAL_DB = 155.0  # where results are drawn that are equal to the last bit
_WIDE = 12  # largest over smallest value, from where an axis is logarithmic


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the page, by its id; the SVG has no reference to anything outside."""

    name: str
    caption: str
    svg: str


def require_plot(path: Path) -> None:
    """Check, before anything is measured, that a plot can be drawn into ``path``."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{path} is neither of {' nor '.join(FORMATS)}", f"--plot {path.stem}.svg"
        )
    require_matplotlib()


def require_matplotlib() -> None:
    """Pass, or raise."""
    if importlib.util.find_spec("matplotlib") is None:
        raise EnvironmentMissingError(
            "plots need matplotlib, which is not installed", "pip install matplotlib jinja2"
        )


def draw_file(
    path: Path, inches: tuple[float, float], font_size: float, paint: Callable[[Canvas], None]
) -> None:
    """Draw into an SVG, with text as text, or a PNG, which replaces an earlier one."""
    require_plot(path)
    kind = path.suffix.lower().removeprefix(".")
    with _canvas(inches, {"font.size": font_size}) as canvas:
        paint(canvas)
        with atomic_path(path) as scratch:
            _save(canvas, scratch, kind)


def draw(name: str, caption: str, height_inches: float, paint: Callable[[Axes], None]) -> Figure:
    """A figure of the page, with one pair of axes, coloured by the page, light or dark."""
    with _canvas((WIDTH_INCHES, height_inches), _PAGE) as canvas:
        paint(canvas.add_subplot())
        text = io.StringIO()
        _save(canvas, text, "svg", transparent=True)
    return Figure(name, caption, _for_page(text.getvalue(), name))


@contextmanager
def _canvas(inches: tuple[float, float], style: dict[Any, Any]) -> Iterator[Canvas]:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_STYLE | style), warnings.catch_warnings():
        # The font that measures the text may lack a letter of a name; the page's own draws it.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield Canvas(figsize=inches, layout="constrained")


def _save(canvas: Canvas, target: Path | IO[str], kind: str, **more: Any) -> None:
    metadata = _NOT_WRITTEN if kind == "svg" else None
    canvas.savefig(target, format=kind, dpi=_DPI, metadata=metadata, **more)


def short(text: str, less: int = 0) -> str:
    """A name that has room in a figure, ``less`` characters behind it included.

    Without what no file may hold.
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


def height(rows: int, legend_lines: int = 0) -> float:
    """Inches of a figure with so many named rows, and lines in its legend."""
    legend_inches = 0.08 + _LEGEND_INCHES * legend_lines if legend_lines else 0
    return _EDGE_INCHES + _ROW_INCHES * (rows - 1 + sum(_EDGE_ROWS)) + legend_inches


def more(rows: Sequence[object]) -> str:
    """For the caption of a figure that has no room for all."""
    return f" The first {MAX_ROWS} of {len(rows)}; the table has all." if rows[MAX_ROWS:] else ""


def name_rows(axes: Axes, names: Sequence[str], values: Sequence[str] = ()) -> None:
    """Rows from the top, with their names above the marks, where they take no width away.

    Names are cut off where there is no room, the values behind them never.
    """
    for place, name in enumerate(names):
        value = f": {values[place]}" if values else ""
        axes.annotate(
            short(name, len(value)) + value,
            (0, place),
            (0, 9),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9.5,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},  # no line through it
        )
    axes.set_ylim(len(names) - 1 + _EDGE_ROWS[1], -_EDGE_ROWS[0])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def scale(axes: Axes, values: Sequence[float]) -> None:
    """From zero; logarithmic where the values are far apart and none is zero."""
    if min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_xscale("log")
        plain_ticks(axes)
        axes.set_xlim(min(values) / 1.3, max(values) * 1.3)
    else:
        axes.set_xlim(min(0, *values), 1.08 * max(values))


def from_zero(axes: Axes, values: Sequence[float]) -> None:
    """A vertical axis that does not exaggerate."""
    axes.set_ylim(0, 1.1 * max(values))


def plain_ticks(axes: Axes) -> None:
    """Numbers as people write them on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, kind in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if kind == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
            axis.set_minor_formatter(NullFormatter())


def curve(axes: Axes, index: int, x: Sequence[float], y: Sequence[float]) -> Line2D:
    """The ``index``-th curve, of its own colour and marker."""
    round_, place = divmod(index, len(SERIES))
    colour, marker = SERIES[place], MARKERS[(place + round_) % len(MARKERS)]
    # Later ones are thinner: where two are the same, both are seen.
    width, size = 2.6 - 0.5 * (index % 4), 7.5 - index % 4
    (line,) = axes.plot(x, y, marker=marker, color=colour, linewidth=width, markersize=size)
    line.set_linestyle(("-", "--", ":")[round_ % 3])
    return line


def depth_curves(
    axes: Axes, pairs: Sequence[BisectionReport], columns: Sequence[str], nothing_db: float = 0.0
) -> list[Line2D]:
    """Signal to noise along the depth, a curve a pair, with its floor."""
    lines = []
    for index, pair in enumerate(pairs):
        own = [row for row in pair.rows if row.tensor in columns]
        heights = [decibel_place(row.sqnr_db, not row.reason, nothing_db) for row in own]
        line = curve(axes, index, [columns.index(row.tensor) for row in own], heights)
        if pair.floor_db is not None:
            axes.axhline(pair.floor_db, color=line.get_color(), linestyle="--", linewidth=0.9)
        lines.append(line)
    return lines


def bars(axes: Axes, index: int, starts: Sequence[float], widths: Sequence[float]) -> Artist:
    """The ``index``-th part of stacked bars, of its own colour and hatch."""
    places = range(len(widths))
    colour, hatch = SERIES[index % len(SERIES)], HATCHES[index % len(HATCHES)]
    shown = axes.barh(
        places, widths, 0.34, left=starts, color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0.6
    )
    return shown.patches[0]


def legend(axes: Axes, shown: Sequence[Artist], names: Sequence[str], columns: int = 1) -> None:
    """Below the axes. Names are given with what was drawn: none is left out for its underscore."""
    axes.figure.legend(shown, list(map(short, names)), loc="outside lower left", ncols=columns,
                       frameon=False, fontsize=9.5)  # fmt: skip


def legend_of_markers(axes: Axes, names: Sequence[str]) -> None:
    """What the first markers stand for; only the first is filled."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=TEXT, marker=MARKERS[i], linestyle="", markersize=5,
               markerfacecolor=TEXT if i == 0 else PAPER)
        for i, _ in enumerate(names)
    ]  # fmt: skip
    legend(axes, lines, names, len(names))


def decibel_place(sqnr_db: float | None, right: bool, nothing_db: float = 0.0) -> float:
    """Of a point; null stands for equal results, or for ones that could not be compared."""
    if sqnr_db is None:
        return EQUAL_DB if right else nothing_db
    return max(nothing_db, min(EQUAL_DB, sqnr_db))


def decibel_axis(
    ticks: Callable[[list[float], list[str]], object], limits: Callable[[float, float], object]
) -> None:
    """The same axis for all figures of agreement, so that they can be compared."""
    steps = [float(step) for step in range(0, 141, 20)]
    ticks([*steps, EQUAL_DB], [*(f"{step:.0f}" for step in steps), "equal"])
    limits(-3, EQUAL_DB + 7)
