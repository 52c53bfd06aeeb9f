"""Figures of agreement and of cost: SQNR against its floor, along the depth, bytes and kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swin_deploy.engine.purpose import PURPOSES
from swin_deploy.report.page.axes import MAX_ROWS, bars, curve, height, legend, more, name_rows
from swin_deploy.report.page.costs import EngineCost, PurposeCost
from swin_deploy.report.page.svg import SERIES, TEXT, Figure, draw, short
from swin_deploy.report.page.tables import significant
from swin_deploy.verify.comparison import ComparisonRow
from swin_deploy.verify.report import BisectionReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EQUAL_DB = 155.0  # where results are drawn that are equal to the last bit
_NOTHING_DB = 0.0  # and those that could not be compared


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of a candidate that is nearest to its floor."""

    name: str
    row: ComparisonRow


def plot_agreement(rows: Sequence[Agreement]) -> Figure:
    """SQNR of every candidate, and the floor that it had to reach."""
    from matplotlib.lines import Line2D

    shown = rows[:MAX_ROWS]

    def paint(axes: Axes) -> None:
        for place, agreement in enumerate(shown):
            row = agreement.row
            colour = SERIES[0] if row.passed else SERIES[1]
            axes.plot(
                [0, _place(row.sqnr_db, row.passed)], [place] * 2, color=colour, linewidth=1.6
            )
            axes.plot(_place(row.sqnr_db, row.passed), place, "o" if row.passed else "X",
                      color=colour, markersize=6 if row.passed else 8)  # fmt: skip
            if row.floor_db is not None:
                axes.plot(row.floor_db, place, "|", color=TEXT, markersize=13, markeredgewidth=2)
        name_rows(axes, [agreement.name for agreement in shown])
        _decibels(axes.set_xticks, axes.set_xlim)
        axes.set_xlabel("signal to noise against eager FP32 (dB)")
        marks = [
            Line2D([], [], color=SERIES[0], marker="o", linewidth=1.6),
            Line2D([], [], color=SERIES[1], marker="X", linewidth=1.6),
            Line2D([], [], color=TEXT, marker="|", linestyle="", markersize=11, markeredgewidth=2),
        ]
        legend(axes, marks, ["passed", "failed", "floor"], 3)

    caption = (
        "Signal to noise of the worst image of every candidate; it has to reach the mark of its "
        "floor." + more(rows)
    )
    return draw("agreement", caption, height(len(shown), 1), paint)


def plot_depth(pairs: Sequence[tuple[str, BisectionReport]]) -> Figure:
    """SQNR after every block, a curve a pair."""
    shown = [(name, pair) for name, pair in pairs if pair.rows][: len(SERIES)]
    longest = max((pair for _, pair in shown), key=lambda pair: len(pair.rows)).rows
    columns = {tensor.tensor: place for place, tensor in enumerate(longest)}

    def paint(axes: Axes) -> None:
        lines = []
        for index, (_, pair) in enumerate(shown):
            own = [tensor for tensor in pair.rows if tensor.tensor in columns]
            places = [columns[tensor.tensor] for tensor in own]
            heights = [_place(tensor.sqnr_db, not tensor.reason) for tensor in own]
            lines.append(curve(axes, index, places, heights))
            if pair.floor_db is not None:
                axes.axhline(pair.floor_db, color=SERIES[index], linestyle="--", linewidth=0.9)
        _decibels(axes.set_yticks, axes.set_ylim)
        middles = _middles([tensor.stage for tensor in longest])
        axes.set_xticks(list(middles.values()), list(map(short, middles)))
        axes.set_xlabel("depth: the tensor after each block, stage by stage")
        axes.set_ylabel("signal to noise (dB)")
        axes.grid()
        legend(axes, lines, [name for name, _ in shown])

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
            parts.append(bars(axes, PURPOSES.index(purpose), ends, widths))
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        name_rows(axes, [title for title, _ in shown], [f"{show(end)} {unit}" for end in ends])
        axes.set_xlim(0, 1.04 * max(ends))
        axes.set_xlabel(label)
        legend(axes, parts, used, 3)

    return draw(name, caption + more(engines), height(len(shown), -(-len(used) // 3)), paint)


def _place(sqnr_db: float | None, right: bool) -> float:
    """Of a point; null stands for equal results, or for ones that could not be compared."""
    if sqnr_db is None:
        return EQUAL_DB if right else _NOTHING_DB
    return max(_NOTHING_DB, min(EQUAL_DB, sqnr_db))


def _decibels(
    ticks: Callable[[list[float], list[str]], object], limits: Callable[[float, float], object]
) -> None:
    """The same axis for all figures of agreement, so that they can be compared."""
    steps = [float(step) for step in range(0, 141, 20)]
    ticks([*steps, EQUAL_DB], [*(f"{step:.0f}" for step in steps), "equal"])
    limits(-3, EQUAL_DB + 7)
