"""Plots that commands draw into files: the depth, places in INT8, growth with the image."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.core.records import decode
from swin_deploy.measure.scaling.report import FitRow, PointRow, ScalingReport
from swin_deploy.measure.sensitivity.report import Place, SensitivityReport
from swin_deploy.measure.verify.report import BisectionReport, ChecksReport
from swin_deploy.report.figures import (
    EQUAL_DB,
    SERIES,
    curve,
    decibel_place,
    depth_curves,
    draw_file,
    plain_ticks,
)
from swin_deploy.report.measured_tables import exponent_interval, threads_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


_NOTHING_DB = -5.0  # where tensors are drawn that hold NaN, or have another shape
# Cost -> title of its panel, unit, and how many of the report's units are one of those.
PANELS = {
    "flops": ("FLOPs of the graph", "GFLOP", 1e9),
    "activation_bytes": ("activation bytes, node by node", "MB", 1e6),
    "time_ms": ("time of a call; bars: fastest and slowest round", "ms", 1.0),
    "cpu_ms": ("CPU time of a call, all threads", "ms", 1.0),
    "working_bytes": ("memory of a call, above the loaded network", "MB", 1e6),
    "compiled_bytes": ("activation bytes of TensorRT-RTX kernels, FP16", "MB", 1e6),
}
_KINDS = ("qkv", "fc2", "merge", "attention", "fc1", "proj", "head", "embed")
_COLOURS = dict(zip(_KINDS, SERIES, strict=True))  # of places
_HATCH = "////"


def plot_depth(content: dict[str, Any], path: Path) -> None:
    """Draw the bisections of ``check_run``: a curve a pair, with its floor and what is below."""
    report = decode(ChecksReport, content, "report", own=True)
    longest = max(report.bisections, key=lambda pair: len(pair.rows)).rows
    columns = {row.tensor: row.stage for row in longest}  # in the order of the depth

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        _draw_stages(axes, list(columns.values()))
        lines = depth_curves(axes, report.bisections, list(columns), _NOTHING_DB)
        for line, pair in zip(lines, report.bisections, strict=True):
            line.set_label(f"{pair.candidate} against {pair.reference}")
            _mark_first(axes, pair, list(columns), line.get_color())
        axes.set_xticks(range(len(columns)), [_block(name) for name in columns], fontsize=7)
        axes.tick_params(axis="x", labelrotation=90 if len(columns) > 16 else 0)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(_NOTHING_DB - 5, EQUAL_DB + 20)
        ticks: dict[float, str] = {step: str(step) for step in range(0, 141, 20)}
        rows = [row for pair in report.bisections for row in pair.rows]
        heights = {decibel_place(row.sqnr_db, not row.reason, _NOTHING_DB) for row in rows}
        if _NOTHING_DB in heights:
            del ticks[0]
            ticks[_NOTHING_DB] = "none"
        ticks[EQUAL_DB] = "equal"
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("depth: the tensor after each block, by its number in the stage")
        axes.set_ylabel("signal to noise (dB); dashed: floor")
        axes.set_title(f"{report.network}: where the tensors inside part", loc="left", fontsize=9)
        axes.grid(axis="y")
        canvas.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)

    draw_file(path, (max(7.5, 2 + 0.3 * len(columns)), 4.2), 8, paint)


def _mark_first(axes: Axes, pair: BisectionReport, columns: list[str], colour: Any) -> None:
    """Where the pair leaves its floor, named by the tensor, which may be inside a block."""
    wrong = next((row for row in pair.rows if row.reason and row.tensor in columns), None)
    if wrong is None or pair.first is None:
        return
    height = decibel_place(wrong.sqnr_db, right=False, nothing_db=_NOTHING_DB)
    axes.plot(columns.index(wrong.tensor), height, marker="X", markersize=11, color="black",
              zorder=5, linestyle="", markerfacecolor=colour,
              label=f"first below its floor: {pair.first.tensor}")  # fmt: skip


def _draw_stages(axes: Axes, stages: list[str]) -> None:
    """Bands behind the curves, with the names of the stages in them."""
    for index, stage in enumerate(dict.fromkeys(stages)):
        first, count = stages.index(stage), stages.count(stage)
        if index % 2:
            axes.axvspan(first - 0.5, first + count - 0.5, color="#f0f0f0", linewidth=0, zorder=0)
        if count > 1:
            middle = first + (count - 1) / 2
            axes.text(middle, EQUAL_DB + 7, stage, ha="center", va="bottom", fontsize=8)


def _block(name: str) -> str:
    """A tick's label: the stage stands above."""
    if name in ("layers.0.enter", "patch_embed"):
        return "embed"
    if name.endswith(".enter"):
        return "merge"
    if name == "head":
        return "logits"
    return re.sub(r"^(layers\.\d+\.)?blocks\.", "", name)


def plot_sensitivity(content: dict[str, Any], path: Path) -> None:
    """Draw a bar a place of ``measure_sensitivity``: the shorter, the more sensitive."""
    report = decode(SensitivityReport, content, "report", own=True)
    places = sorted(report.places, key=lambda place: place.order)

    def paint(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        left = set() if report.mixed is None else set(report.mixed.left)
        handles = [*_draw_bars(axes, places, left), *_draw_marks(axes, report)]
        axes.set_xlabel(
            "signal to quantisation noise of the logits (dB); a short bar is a sensitive place"
        )
        axes.set_title(
            f"{report.network}: one place in INT8, the rest in FP32\n"
            f"{report.method} of {report.calibration_images} images, "
            f"measured on {report.images}",
            loc="left",
            fontsize=9,
        )
        axes.grid(axis="x")
        canvas.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=7)

    draw_file(path, (8, 1.5 + 0.165 * len(places)), 8, paint)


def _draw_bars(axes: Axes, places: list[Place], left: set[str]) -> list[Artist]:
    """Returns what the legend shows of them."""
    from matplotlib.patches import Patch

    known = [place.mean_sqnr_db for place in places if place.mean_sqnr_db is not None]
    longest = max(known, default=1.0)
    # A place whose quantising changes nothing at all has no noise, and the longest bar.
    values = [longest if (db := place.mean_sqnr_db) is None else db for place in places]
    texts = ["equal" if (db := place.mean_sqnr_db) is None else f"{db:.1f}" for place in places]
    colours = [_COLOURS[place.kind] for place in places]
    bars = axes.barh(range(len(places)), values, 0.78, color=colours)
    for bar, place in zip(bars, places, strict=True):
        if place.name in left:
            bar.set(hatch=_HATCH, edgecolor="black", linewidth=0.6)
    axes.bar_label(bars, texts, padding=2, fontsize=6.5)
    axes.set_yticks(range(len(places)), [place.name for place in places], fontsize=6.5)
    axes.set_ylim(len(places) - 0.4, -0.6)  # the first place on top
    axes.set_xlim(min(0, *values), 1.08 * longest)
    kinds = {place.kind for place in places}
    shown: list[Artist] = [Patch(color=c, label=k) for k, c in _COLOURS.items() if k in kinds]
    if left:
        shown.append(
            Patch(facecolor="white", edgecolor="black", hatch=_HATCH, label="stays in FP16")
        )
    return shown


def _draw_marks(axes: Axes, report: SensitivityReport) -> list[Artist]:
    """Lines for what all places, or all but those in FP16, have together."""
    lines = [("all places", "--", report.all.mean_sqnr_db)]
    if report.mixed is not None and report.mixed.left:
        lines.append(("all but those in FP16", ":", report.mixed.mean_sqnr_db))
    return [
        axes.axvline(value, color="black", linestyle=style, linewidth=1.1,
                     label=f"{title}: {value:.1f} dB")
        for title, style, value in lines if value is not None
    ]  # fmt: skip


def plot_scaling(content: dict[str, Any], path: Path) -> None:
    """Draw a panel per cost of ``measure_scaling``, a curve per network, of the smallest batch."""
    report = decode(ScalingReport, content, "report", own=True)
    batch = min(point.batch for point in report.points)
    points = [point for point in report.points if point.batch == batch]
    area = [fit for fit in report.fits if fit.axis == "area" and fit.batch == batch]
    fits = {(fit.network, fit.cost): fit for fit in area}
    panels = [cost for cost in PANELS if any(own == cost for _, own in fits)]
    columns = 3 if len(panels) > 4 else 2
    rows = -(-len(panels) // columns)

    def paint(canvas: Canvas) -> None:
        for index, cost in enumerate(panels):
            guides = _draw_panel(canvas.add_subplot(rows, columns, index + 1), cost, points, fits)
        labels = ["slope 1: linear in the area", "slope 2: quadratic"]
        canvas.legend(guides, labels, loc="outside lower center", ncols=2, frameon=False)
        canvas.suptitle(
            f"Cost against image area, batch {batch}: {report.runtime}, "
            f"{threads_text(report)} of {report.machine.processor}, {report.rounds} rounds\n"
            "the number is the fitted exponent with its 95 % interval",
            fontsize=10,
        )

    draw_file(path, (0.4 + 4.9 * columns, 0.7 + 4.1 * rows), 9, paint)


def _draw_panel(
    axes: Axes, cost: str, points: Sequence[PointRow], fits: dict[tuple[str, str], FitRow]
) -> list[Artist]:
    """Returns the lines of slope 1 and 2."""
    title, unit, scale = PANELS[cost]
    starts, ends, curves = [], [], []
    for index, network in enumerate(dict.fromkeys(point.network for point in points)):
        if (network, cost) not in fits:
            continue
        own = [point for point in points if point.network == network]
        values = [getattr(point, cost) / scale for point in own]
        starts.append(values[0])
        ends.append(values[-1])
        fit = fits[network, cost]
        areas = [point.area for point in own]
        line = curve(axes, index, areas, values)
        line.set(label=f"{network}: {fit.exponent:.2f} ({exponent_interval(fit) or '-'})", zorder=3)
        curves.append(line)
        if cost == "time_ms":
            low, high = [p.time_low_ms for p in own], [p.time_high_ms for p in own]
            axes.vlines(areas, low, high, color=line.get_color(), linewidth=1)
    axes.set(xscale="log", yscale="log", ylabel=unit, title=title)
    axes.title.set_fontsize(9.5)
    guides = _guide(axes, sorted({point.area for point in points}), starts, max(ends))
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
        lines += axes.plot([first, reach], [foot, top], style, color="#767676", zorder=1)
    return lines


def _finish(axes: Axes, points: Sequence[PointRow]) -> None:
    """Ticks, one for every square image or for all where few are, and margins."""
    from matplotlib.ticker import NullLocator

    sizes = {point.area: point.image_size for point in points}
    square = {area: size for area, size in sizes.items() if size[0] == size[1]}
    shown = square if len(square) > 1 else sizes
    plain_ticks(axes)
    axes.set_xticks(list(shown), ["x".join(map(str, size)) for size in shown.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("image (pixels), by its area")
    axes.grid()
    axes.margins(x=0.06, y=0.08)
    # Room above for the legend, whatever the curves do: a fifth of the panel.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.25)
