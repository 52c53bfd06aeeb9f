"""A curve of signal to noise along the depth of a network, block by block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.files import atomic_path
from swin_deploy.report.sensitivity_plot import require_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008): told apart with every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*"
TOP_DB = 155.0  # where tensors are drawn that are equal to the last bit
BOTTOM_DB = -5.0  # and those that hold NaN, or have another shape
_COLUMN_INCHES, _MARGIN_INCHES, _LEAST_INCHES = 0.3, 2.0, 7.5
_DPI = 150


def plot_depth(report: dict[str, Any], path: Path) -> None:
    """Draw the bisections of a report: a curve a pair, its floor, and the first tensor below it.

    Args:
        report: As ``check_run`` gives it, with at least one bisection.
        path: Replaced by an SVG, with text as text, or a PNG.

    Raises:
        ConfigError: As ``require_plot``.
        EnvironmentMissingError: Likewise.
    """
    require_plot(path)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = report["bisections"]
    columns = _columns(found)
    # The same bytes for the same report: no date, no random names; and names that can be searched.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "swin-deploy", "font.size": 8}):
        width = max(_LEAST_INCHES, _MARGIN_INCHES + _COLUMN_INCHES * len(columns))
        figure = Figure(figsize=(width, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_stages(axes, columns)
        for index, pair in enumerate(found):
            _draw_pair(axes, pair, list(columns), index)
        _label(axes, report, columns)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else None
        with atomic_path(path) as scratch:
            figure.savefig(scratch, format=kind, dpi=_DPI, metadata=metadata)


def _columns(found: list[dict[str, Any]]) -> dict[str, str]:
    """Tensor -> stage, in the order of the depth; of the pair that has the most."""
    longest = max(found, key=lambda pair: len(pair["rows"]))
    return {row["tensor"]: row["stage"] for row in longest["rows"]}


def _height(row: dict[str, Any]) -> float:
    if row["sqnr_db"] is None:
        return BOTTOM_DB if row["reason"] else TOP_DB
    return max(BOTTOM_DB, min(TOP_DB, float(row["sqnr_db"])))


def _draw_pair(axes: Axes, pair: dict[str, Any], columns: list[str], index: int) -> None:
    rows = [row for row in pair["rows"] if row["tensor"] in columns]
    places, heights = [columns.index(row["tensor"]) for row in rows], [_height(row) for row in rows]
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    name = f"{pair['candidate']} against {pair['reference']}"
    axes.plot(places, heights, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
    if pair["floor_db"] is not None:
        axes.axhline(pair["floor_db"], color=colour, linestyle="--", linewidth=0.9)
    wrong = next((i for i, row in enumerate(rows) if row["reason"]), None)
    if wrong is not None:
        first = pair["first"]["tensor"]
        axes.plot(
            places[wrong], heights[wrong], marker="X", markersize=11, color="black", zorder=5,
            markerfacecolor=colour, linestyle="", label=f"first below its floor: {first}",
        )  # fmt: skip


def _draw_stages(axes: Axes, columns: dict[str, str]) -> None:
    """Bands behind the curves, with the names of the stages in them."""
    stages = list(columns.values())
    for index, stage in enumerate(dict.fromkeys(stages)):
        first, count = stages.index(stage), stages.count(stage)
        if index % 2:
            axes.axvspan(first - 0.5, first + count - 0.5, color="#f0f0f0", linewidth=0, zorder=0)
        if count > 1:
            axes.text(
                first + (count - 1) / 2, TOP_DB + 7, stage, ha="center", va="bottom", fontsize=8
            )


def _label(axes: Axes, report: dict[str, Any], columns: dict[str, str]) -> None:
    axes.set_xticks(range(len(columns)), [_short(name) for name in columns], fontsize=7)
    axes.tick_params(axis="x", labelrotation=90 if len(columns) > 16 else 0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(BOTTOM_DB - 5, TOP_DB + 20)
    ticks: dict[float, str] = {step: str(step) for step in range(0, 141, 20)} | {TOP_DB: "equal"}
    rows = [row for pair in report["bisections"] for row in pair["rows"]]
    if any(_height(row) == BOTTOM_DB for row in rows):
        ticks |= {BOTTOM_DB: "none"}
        del ticks[0]
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("depth: the tensor after each block, by its number in the stage")
    axes.set_ylabel("signal to noise (dB); dashed: floor")
    axes.set_title(f"{report['network']}: where the tensors inside part", loc="left", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    """A tick's label: the stage stands above."""
    if name in ("layers.0.enter", "patch_embed"):
        return "embed"
    if name.endswith(".enter"):
        return "merge"
    if name == "head":
        return "logits"
    return re.sub(r"^(layers\.\d+\.)?blocks\.", "", name)
