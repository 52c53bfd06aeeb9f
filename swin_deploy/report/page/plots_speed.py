"""Figures of times: percentiles, throughput, speed-ups, and growth with the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swin_deploy.bench.statistics import Measurement
from swin_deploy.report.page.axes import (
    MAX_ROWS,
    curve,
    from_zero,
    height,
    legend,
    legend_of_markers,
    more,
    name_rows,
    plain_ticks,
    scale,
)
from swin_deploy.report.page.svg import FAINT, MARKERS, PAPER, SERIES, TEXT, Figure, draw
from swin_deploy.report.page.tables import significant
from swin_deploy.scaling.report import ScalingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 10  # batches that are named
_PERCENTILES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))


@dataclass(frozen=True, slots=True)
class Row:
    """A timing of a source, called what a figure calls it."""

    name: str
    timing: Measurement


def plot_latency(rows: Sequence[Row]) -> Figure:
    """Four percentiles of every runner and batch."""
    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, row in enumerate(shown):
            values = [getattr(row.timing, key) for _, key in _PERCENTILES]
            colour = _colour(row)
            axes.plot([values[0], values[-1]], [place] * 2, color=colour, linewidth=1.6)
            for index, value in enumerate(values):
                axes.plot(value, place, MARKERS[index], color=colour, markersize=6 - 0.6 * index,
                          markerfacecolor=colour if index == 0 else PAPER)  # fmt: skip
        name_rows(
            axes, [*map(_title, shown)], [f"{significant(r.timing.p50_ms)} ms" for r in shown]
        )
        every = [getattr(row.timing, key) for row in shown for _, key in _PERCENTILES]
        scale(axes, every)
        axes.set_xlabel("latency of a call, host to host (ms)")
        legend_of_markers(axes, [name for name, _ in _PERCENTILES])

    caption = "Latency of a call: median and tail of every runner; left is faster." + more(rows)
    return draw("latency", caption, height(len(shown), 1), paint)


def plot_speedups(rows: Sequence[Row]) -> Figure:
    """Speed-up and its interval of 95 % of all that was compared with the baseline."""
    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, row in enumerate(shown):
            timing = row.timing
            axes.plot([timing.speedup_low, timing.speedup_high], [place] * 2, "|-",
                      color=_colour(row), linewidth=1.8, markersize=8)  # fmt: skip
            axes.plot(timing.speedup, place, "o", color=_colour(row), markersize=6)
        axes.axvline(1, color=TEXT, linewidth=1, linestyle="--", zorder=1)
        name_rows(
            axes, [*map(_title, shown)], [f"{significant(r.timing.speedup)} times" for r in shown]
        )
        ends = [end for row in shown for end in (row.timing.speedup_low, row.timing.speedup_high)]
        scale(axes, [1.0, *ends])
        axes.set_xlabel("speed-up over eager PyTorch (times), 95 % interval")

    caption = (
        "Speed-up over the eager network, with its interval; right of the dashed line is faster."
        + more(rows)
    )
    return draw("speedup", caption, height(len(shown)), paint)


def plot_throughput(rows: Sequence[Row]) -> Figure:
    """Images per second against the batch, a curve a runner."""
    names = list(dict.fromkeys(row.name for row in rows))[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        lines = []
        for index, name in enumerate(names):
            own = sorted((r.timing for r in rows if r.name == name), key=lambda t: t.batch)
            x, y = [t.batch for t in own], [t.images_per_s for t in own]
            lines.append(curve(axes, index, x, y))
        batches = sorted({row.timing.batch for row in rows})
        axes.set_xscale("log", base=2)
        ticks = batches[:: -(-len(batches) // _TICKS)]
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.minorticks_off()
        if len(batches) == 1:
            axes.set_xlim(batches[0] / 2, batches[0] * 2)
        from_zero(axes, [row.timing.images_per_s for row in rows])
        axes.set_xlabel("batch (images per call)")
        axes.set_ylabel("throughput (images/s)")
        axes.grid()
        legend(axes, lines, names)

    caption = "Throughput against the batch; higher is faster."
    return draw("throughput", caption, 2.9 + 0.17 * len(names), paint)


def plot_scaling(sources: Sequence[tuple[str, ScalingReport]]) -> Figure:
    """Time of a call against the image's area, a curve a network, of the smallest batch."""
    curves = []
    for label, scaling in sources:
        batch = min(point.batch for point in scaling.points)
        for network in dict.fromkeys(point.network for point in scaling.points):
            own = [p for p in scaling.points if p.network == network and p.batch == batch]
            name = f"{network}, {label}" if len(sources) > 1 else network
            curves.append((name, sorted(own, key=lambda point: point.area)))

    shown = curves[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        lines = [
            curve(axes, index, [p.area for p in points], [p.time_ms for p in points])
            for index, (_, points) in enumerate(shown)
        ]
        axes.set(xscale="log", yscale="log")
        plain_ticks(axes)
        axes.set_xlabel("image area (pixels)")
        axes.set_ylabel("time of a call (ms)")
        axes.grid()
        legend(axes, lines, [name for name, _ in shown])

    caption = "Time of a call against the image's area, both axes logarithmic."
    return draw("scaling", caption, 2.9 + 0.17 * len(shown), paint)


def _title(row: Row) -> str:
    return f"batch {row.timing.batch}: {row.name}"


def _colour(row: Row) -> str:
    return SERIES[0] if row.timing.role == "candidate" else FAINT
