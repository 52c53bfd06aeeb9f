"""Curves of cost against the image's area, on logarithmic axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.files import atomic_path
from swin_deploy.report.scaling_tables import show_interval, show_threads
from swin_deploy.report.sensitivity_plot import require_plot

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito (2008): told apart with every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
_GUIDE = "#767676"
# Cost -> title of its panel, unit, and how many of the report's units are one of those.
PANELS = {
    "flops": ("FLOPs of the graph", "GFLOP", 1e9),
    "activation_bytes": ("activation bytes, node by node", "MB", 1e6),
    "time_ms": ("time of a call; bars: fastest and slowest round", "ms", 1.0),
    "cpu_ms": ("CPU time of a call, all threads", "ms", 1.0),
    "working_bytes": ("memory of a call, above the loaded network", "MB", 1e6),
    "compiled_bytes": ("activation bytes of TensorRT-RTX kernels, FP16", "MB", 1e6),
}
_DPI = 150

__all__ = ["plot_scaling", "require_plot"]


def plot_scaling(report: dict[str, Any], path: Path) -> None:
    """Draw a panel per cost, and in it a curve per network, of the smallest batch.

    Args:
        report: As ``measure_scaling`` gives it.
        path: Replaced by an SVG, with text as text, or a PNG.

    Raises:
        ConfigError: As ``require_plot``.
        EnvironmentMissingError: Likewise.
    """
    require_plot(path)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    batch = min(row["batch"] for row in report["points"])
    points = [row for row in report["points"] if row["batch"] == batch]
    fits = {
        (fit["network"], fit["cost"]): fit
        for fit in report["fits"]
        if fit["axis"] == "area" and fit["batch"] == batch
    }
    panels = [cost for cost in PANELS if any(own == cost for _, own in fits)]
    columns = 3 if len(panels) > 4 else 2
    rows = -(-len(panels) // columns)
    # The same bytes for the same report: no date, no random names; and names that can be searched.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "swin-deploy", "font.size": 9}):
        figure = Figure(figsize=(0.4 + 4.9 * columns, 0.7 + 4.1 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for index, cost in enumerate(panels):
            guides = _draw(figure.add_subplot(rows, columns, index + 1), cost, points, fits)
        labels = ["slope 1: linear in the area", "slope 2: quadratic"]
        figure.legend(guides, labels, loc="outside lower center", ncols=2, frameon=False)
        machine = report["machine"]
        figure.suptitle(
            f"Cost against image area, batch {batch}: {report['runtime']}, "
            f"{show_threads(report)} of {machine['processor']}, {report['rounds']} rounds\n"
            "the number is the fitted exponent with its 95 % interval",
            fontsize=10,
        )
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else None
        with atomic_path(path) as scratch:
            figure.savefig(scratch, format=kind, dpi=_DPI, metadata=metadata)


def _draw(
    axes: Axes,
    cost: str,
    points: list[dict[str, Any]],
    fits: dict[tuple[str, str], dict[str, Any]],
) -> list[Artist]:
    """A panel; returns the lines of slope 1 and 2."""
    title, unit, scale = PANELS[cost]
    starts, ends, curves = [], [], []
    for index, network in enumerate(dict.fromkeys(row["network"] for row in points)):
        if (network, cost) not in fits:
            continue
        own = [row for row in points if row["network"] == network]
        values = [row[cost] / scale for row in own]
        starts.append(values[0])
        ends.append(values[-1])
        fit = fits[network, cost]
        areas = [row["area"] for row in own]
        colour, marker = COLOURS[index % 6], MARKERS[index % 6]
        label = f"{network}: {fit['exponent']:.2f} ({show_interval(fit)})"
        (line,) = axes.plot(areas, values, label=label, color=colour, marker=marker, zorder=3)
        line.set(linewidth=1.8, markersize=5)
        curves.append(line)
        if cost == "time_ms":
            axes.vlines(
                areas,
                [row["time_low_ms"] for row in own],
                [row["time_high_ms"] for row in own],
                color=colour,
                linewidth=1,
            )
    axes.set(xscale="log", yscale="log", ylabel=unit, title=title)
    axes.title.set_fontsize(9.5)
    guides = _guide(axes, sorted({row["area"] for row in points}), starts, max(ends))
    _finish(axes, points)
    axes.legend(handles=curves, frameon=False, fontsize=8.5, loc="upper left")
    return guides


def _guide(axes: Axes, areas: list[int], starts: list[float], end: float) -> list[Artist]:
    """Slopes 1 and 2 from where the curves start, or from between where they start apart."""
    first, last = areas[0], areas[-1]
    foot = math.prod(starts) ** (1 / len(starts))
    lines: list[Artist] = []
    for power, style in ((1, "--"), (2, ":")):
        # A square is cut off where the curves end, or it would squeeze them.
        reach = min(last, first * max(2.0, end / foot) ** (1 / power))
        top = foot * (reach / first) ** power
        lines += axes.plot([first, reach], [foot, top], style, color=_GUIDE, zorder=1)
    return lines


def _finish(axes: Axes, points: list[dict[str, Any]]) -> None:
    """Ticks, one for every square image or for all where few are, and margins."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    sizes = {row["area"]: row["image_size"] for row in points}
    square = {area: size for area, size in sizes.items() if size[0] == size[1]}
    shown = square if len(square) > 1 else sizes
    axes.set_xticks(list(shown), ["x".join(map(str, size)) for size in shown.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("image (pixels), by its area")
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06, y=0.08)
    # Room above for the legend, whatever the curves do: a fifth of the panel.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.25)
