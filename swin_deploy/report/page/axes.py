"""What several figures do with their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swin_deploy.report.page.svg import HATCHES, MARKERS, PAPER, SERIES, TEXT, short

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MAX_ROWS = 18  # that a figure has room for
_ROW_INCHES, _EDGE_INCHES, _LEGEND_INCHES = 0.4, 0.6, 0.2
_EDGE_ROWS = 0.75, 0.4  # above the first row, for its name, and below the last
_WIDE = 12  # largest over smallest value, from where an axis is logarithmic


def height(rows: int, legend_lines: int = 0) -> float:
    """Inches of a figure with so many named rows, and lines in its legend."""
    legend_inches = 0.08 + _LEGEND_INCHES * legend_lines if legend_lines else 0
    return _EDGE_INCHES + _ROW_INCHES * (rows - 1 + sum(_EDGE_ROWS)) + legend_inches


def more(rows: Sequence[object]) -> str:
    """For the caption of a figure that has no room for all."""
    return f" The first {MAX_ROWS} of {len(rows)}; the table has all." if rows[MAX_ROWS:] else ""


def name_rows(axes: Axes, names: Sequence[str], values: Sequence[str] = ()) -> None:
    """Rows from the top, with their names above the marks, where they take no width away.

    Args:
        axes: Where the rows are drawn, at 0, 1, ...
        names: One a row; cut off where there is no room.
        values: Behind the names, and never cut off.
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


def curve(axes: Axes, index: int, x: Sequence[float], y: Sequence[float]) -> Artist:
    """The ``index``-th curve, of its own colour and marker."""
    round_, place = divmod(index, len(SERIES))
    colour, marker = SERIES[place], MARKERS[(place + round_) % len(MARKERS)]
    # Later ones are thinner: where two are the same, both are seen.
    width, size = 2.6 - 0.5 * (index % 4), 7.5 - index % 4
    (line,) = axes.plot(x, y, marker=marker, color=colour, linewidth=width, markersize=size)
    line.set_linestyle(("-", "--", ":")[round_ % 3])
    return line


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
