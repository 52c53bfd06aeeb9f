"""Figures of the page: times, growth with the image, agreement, kernels and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from swin_deploy.engine.cost.kernels import PURPOSES
from swin_deploy.measure.bench.statistics import Measurement
from swin_deploy.measure.scaling.report import ScalingReport
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.measure.verify.report import BisectionReport
from swin_deploy.report import figures
from swin_deploy.report.cost_tables import EngineCost, PurposeCost
from swin_deploy.report.figures import FAINT, MARKERS, MAX_ROWS, PAPER, SERIES, TEXT, Figure, draw
from swin_deploy.report.tables import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_TICKS = 10  # batches that are named
_PERCENTILES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))
Timing = tuple[str, Measurement]  # with what a figure calls it


def plot_latency(rows: Sequence[Timing]) -> Figure:
    """Four percentiles of every runner and batch."""
    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, (_, timing) in enumerate(shown):
            values = [getattr(timing, key) for _, key in _PERCENTILES]
            colour = _colour(timing)
            axes.plot([values[0], values[-1]], [place] * 2, color=colour, linewidth=1.6)
            for index, value in enumerate(values):
                axes.plot(value, place, MARKERS[index], color=colour, markersize=6 - 0.6 * index,
                          markerfacecolor=colour if index == 0 else PAPER)  # fmt: skip
        figures.name_rows(
            axes, [*map(_title, shown)], [f"{significant(t.p50_ms)} ms" for _, t in shown]
        )
        every = [getattr(timing, key) for _, timing in shown for _, key in _PERCENTILES]
        figures.scale(axes, every)
        axes.set_xlabel("latency of a call, host to host (ms)")
        figures.legend_of_markers(axes, [name for name, _ in _PERCENTILES])

    caption = "Latency of a call: median and tail of every runner; left is faster."
    return draw("latency", caption + figures.more(rows), figures.height(len(shown), 1), paint)


def plot_speedups(rows: Sequence[Timing]) -> Figure:
    """Speed-up and its interval of 95 % of all that was compared with the baseline."""
    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, (_, timing) in enumerate(shown):
            axes.plot([timing.speedup_low, timing.speedup_high], [place] * 2, "|-",
                      color=_colour(timing), linewidth=1.8, markersize=8)  # fmt: skip
            axes.plot(timing.speedup, place, "o", color=_colour(timing), markersize=6)
        axes.axvline(1, color=TEXT, linewidth=1, linestyle="--", zorder=1)
        figures.name_rows(
            axes, [*map(_title, shown)], [f"{significant(t.speedup)} times" for _, t in shown]
        )
        ends = [end for _, timing in shown for end in (timing.speedup_low, timing.speedup_high)]
        figures.scale(axes, [1.0, *ends])
        axes.set_xlabel("speed-up over eager PyTorch (times), 95 % interval")

    caption = (
        "Speed-up over the eager network, with its interval; right of the dashed line is faster."
        + figures.more(rows)
    )
    return draw("speedup", caption, figures.height(len(shown)), paint)


def plot_throughput(rows: Sequence[Timing]) -> Figure:
    """Images per second against the batch, a curve a runner."""
    names = list(dict.fromkeys(name for name, _ in rows))[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        lines = []
        for index, name in enumerate(names):
            own = sorted((t for called, t in rows if called == name), key=lambda t: t.batch)
            x, y = [t.batch for t in own], [t.images_per_s for t in own]
            lines.append(figures.curve(axes, index, x, y))
        batches = sorted({timing.batch for _, timing in rows})
        axes.set_xscale("log", base=2)
        ticks = batches[:: -(-len(batches) // _TICKS)]
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.minorticks_off()
        if len(batches) == 1:
            axes.set_xlim(batches[0] / 2, batches[0] * 2)
        figures.from_zero(axes, [timing.images_per_s for _, timing in rows])
        axes.set_xlabel("batch (images per call)")
        axes.set_ylabel("throughput (images/s)")
        axes.grid()
        figures.legend(axes, lines, names)

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
            figures.curve(axes, index, [p.area for p in points], [p.time_ms for p in points])
            for index, (_, points) in enumerate(shown)
        ]
        axes.set(xscale="log", yscale="log")
        figures.plain_ticks(axes)
        axes.set_xlabel("image area (pixels)")
        axes.set_ylabel("time of a call (ms)")
        axes.grid()
        figures.legend(axes, lines, [name for name, _ in shown])

    caption = "Time of a call against the image's area, both axes logarithmic."
    return draw("scaling", caption, 2.9 + 0.17 * len(shown), paint)


def _title(row: Timing) -> str:
    return f"batch {row[1].batch}: {row[0]}"


def _colour(timing: Measurement) -> str:
    return SERIES[0] if timing.role == "candidate" else FAINT


def plot_agreement(rows: Sequence[tuple[str, ComparisonRow]]) -> Figure:
    """SQNR of every candidate, and the floor that it had to reach."""
    from matplotlib.lines import Line2D

    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, (_, row) in enumerate(shown):
            reached = figures.decibel_place(row.sqnr_db, row.passed)
            colour = SERIES[0] if row.passed else SERIES[1]
            axes.plot([0, reached], [place] * 2, color=colour, linewidth=1.6)
            axes.plot(reached, place, "o" if row.passed else "X",
                      color=colour, markersize=6 if row.passed else 8)  # fmt: skip
            if row.floor_db is not None:
                axes.plot(row.floor_db, place, "|", color=TEXT, markersize=13, markeredgewidth=2)
        figures.name_rows(axes, [name for name, _ in shown])
        figures.decibel_axis(axes.set_xticks, axes.set_xlim)
        axes.set_xlabel("signal to noise against eager FP32 (dB)")
        marks = [
            Line2D([], [], color=SERIES[0], marker="o", linewidth=1.6),
            Line2D([], [], color=SERIES[1], marker="X", linewidth=1.6),
            Line2D([], [], color=TEXT, marker="|", linestyle="", markersize=11, markeredgewidth=2),
        ]
        figures.legend(axes, marks, ["passed", "failed", "floor"], 3)

    caption = (
        "Signal to noise of the worst image of every candidate; it has to reach the mark of its "
        "floor." + figures.more(rows)
    )
    return draw("agreement", caption, figures.height(len(shown), 1), paint)


def plot_depth(pairs: Sequence[tuple[str, BisectionReport]]) -> Figure:
    """SQNR after every block, a curve a pair."""
    shown = [(name, pair) for name, pair in pairs if pair.rows][: len(SERIES)]
    longest = max((pair for _, pair in shown), key=lambda pair: len(pair.rows)).rows

    def paint(axes: Axes) -> None:
        lines = figures.depth_curves(
            axes, [pair for _, pair in shown], [row.tensor for row in longest]
        )
        figures.decibel_axis(axes.set_yticks, axes.set_ylim)
        middles = _middles([tensor.stage for tensor in longest])
        axes.set_xticks(list(middles.values()), list(map(figures.short, middles)))
        axes.set_xlabel("depth: the tensor after each block, stage by stage")
        axes.set_ylabel("signal to noise (dB)")
        axes.grid()
        figures.legend(axes, lines, [name for name, _ in shown])

    caption = "Error along the depth: signal to noise after every block; dashed lines are floors."
    return draw("depth", caption, 3.2 + 0.17 * len(shown), paint)


def _middles(stages: list[str]) -> dict[str, float]:
    """Stage -> where its name has room: those of one tensor have none beside the others."""
    count = Counter(stages)
    wide = {stage for stage in count if count[stage] > 1} or set(stages)
    return {s: stages.index(s) + (count[s] - 1) / 2 for s in dict.fromkeys(stages) if s in wide}


def plot_bytes(engines: Sequence[tuple[str, EngineCost]]) -> Figure | None:
    """Bytes that the kernels of each purpose move; None where no engine's batch is fixed."""
    fixed = [
        (name, engine)
        for name, engine in engines
        if all(cost.moved_bytes is not None for cost in engine.purposes)
    ]
    return _stack(
        "bytes",
        "Bytes that kernels read and write, activations and weights, by what the kernels are for.",
        "bytes moved per call (MB)",
        "MB",
        fixed,
        lambda cost: (cost.moved_bytes or 0) / 1e6,
    )


def plot_kernels(engines: Sequence[tuple[str, EngineCost]]) -> Figure | None:
    """Kernels of each purpose."""
    caption = "Kernels by what they are for; each is a launch."
    return _stack(
        "kernels",
        caption,
        "kernels per call",
        "kernels",
        engines,
        lambda cost: cost.kernels,
        "{:.0f}".format,
    )


def _stack(
    name: str,
    caption: str,
    label: str,
    unit: str,
    engines: Sequence[tuple[str, EngineCost]],
    value: Callable[[PurposeCost], float],
    show: Callable[[float], str] = significant,
) -> Figure | None:
    shown = engines[:MAX_ROWS]
    table = [{cost.purpose: value(cost) for cost in engine.purposes} for _, engine in shown]
    used = [p for p in PURPOSES if any(row.get(p) for row in table)]
    if not used:
        return None

    def paint(axes: Axes) -> None:
        ends, parts = [0.0] * len(table), []
        for purpose in used:
            widths = [row.get(purpose, 0.0) for row in table]
            parts.append(figures.bars(axes, PURPOSES.index(purpose), ends, widths))
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        figures.name_rows(
            axes, [title for title, _ in shown], [f"{show(end)} {unit}" for end in ends]
        )
        axes.set_xlim(0, 1.04 * max(ends))
        axes.set_xlabel(label)
        figures.legend(axes, parts, used, 3)

    return draw(
        name, caption + figures.more(engines), figures.height(len(shown), -(-len(used) // 3)), paint
    )
