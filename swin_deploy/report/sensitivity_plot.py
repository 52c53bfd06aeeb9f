"""Bars of every place's signal to noise, in the order of the network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.errors import ConfigError, EnvironmentMissingError
from swin_deploy.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
# Okabe and Ito (2008): told apart with every common form of colour blindness.
COLOURS = {
    "qkv": "#0072B2",
    "attention": "#CC79A7",
    "proj": "#56B4E9",
    "fc1": "#E69F00",
    "fc2": "#D55E00",
    "merge": "#009E73",
    "embed": "#999999",
    "head": "#F0E442",
}
_ROW_INCHES, _MARGIN_INCHES = 0.165, 1.5
_DPI = 150
_HATCH = "////"


def require_plot(path: Path) -> None:
    """Check, before anything is measured, that a plot can be drawn into ``path``.

    Raises:
        ConfigError: Its name is that of another format.
        EnvironmentMissingError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{path} is neither of {' nor '.join(FORMATS)}", f"--plot {path.stem}.svg"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise EnvironmentMissingError(
            "plots need matplotlib, which is not installed", "pip install matplotlib"
        )


def plot_sensitivity(report: dict[str, Any], path: Path) -> None:
    """Draw a bar a place: the shorter, the more sensitive.

    Args:
        report: As ``measure_sensitivity`` gives it.
        path: Replaced by an SVG, with text as text, or a PNG.

    Raises:
        ConfigError: As ``require_plot``.
        EnvironmentMissingError: Likewise.
    """
    require_plot(path)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(report["places"], key=lambda row: row["order"])
    # The same bytes for the same report: no date, no random names; and names that can be searched.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "swin-deploy", "font.size": 8}):
        height = _MARGIN_INCHES + _ROW_INCHES * len(rows)
        figure = Figure(figsize=(8, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        left = set() if report["mixed"] is None else set(report["mixed"]["left"])
        handles = [*_draw_bars(axes, rows, left), *_draw_marks(axes, report)]
        _label(axes, report)
        figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=7)
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else None
        with atomic_path(path) as scratch:
            figure.savefig(scratch, format=kind, dpi=_DPI, metadata=metadata)


def _draw_bars(axes: Axes, rows: list[dict[str, Any]], left: set[str]) -> list[Artist]:
    """Returns what the legend shows of them."""
    from matplotlib.patches import Patch

    known = [row["mean_sqnr_db"] for row in rows if row["mean_sqnr_db"] is not None]
    longest = max(known, default=1.0)
    # A place whose quantising changes nothing at all has no noise, and the longest bar.
    values = [longest if row["mean_sqnr_db"] is None else row["mean_sqnr_db"] for row in rows]
    bars = axes.barh(range(len(rows)), values, 0.78, color=[COLOURS[row["kind"]] for row in rows])
    for bar, row in zip(bars, rows, strict=True):
        if row["name"] in left:
            bar.set(hatch=_HATCH, edgecolor="black", linewidth=0.6)
    texts = [
        "equal" if row["mean_sqnr_db"] is None else f"{row['mean_sqnr_db']:.1f}" for row in rows
    ]
    axes.bar_label(bars, texts, padding=2, fontsize=6.5)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=6.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first place on top
    axes.set_xlim(min(0, *values), 1.08 * longest)
    kinds = {row["kind"] for row in rows}
    shown: list[Artist] = [
        Patch(color=c, label=kind) for kind, c in COLOURS.items() if kind in kinds
    ]
    if left:
        shown.append(
            Patch(facecolor="white", edgecolor="black", hatch=_HATCH, label="stays in FP16")
        )
    return shown


def _draw_marks(axes: Axes, report: dict[str, Any]) -> list[Artist]:
    """Lines for what all places, or all but those in FP16, have together."""
    mixed = report["mixed"]
    lines = [("all places", "--", report["all"])]
    if mixed is not None and mixed["left"]:
        lines.append(("all but those in FP16", ":", mixed))
    return [
        axes.axvline(
            row["mean_sqnr_db"],
            color="black",
            linestyle=style,
            linewidth=1.1,
            label=f"{title}: {row['mean_sqnr_db']:.1f} dB",
        )
        for title, style, row in lines
        if row["mean_sqnr_db"] is not None
    ]


def _label(axes: Axes, report: dict[str, Any]) -> None:
    axes.set_xlabel(
        "signal to quantisation noise of the logits (dB); a short bar is a sensitive place"
    )
    axes.set_title(
        f"{report['network']}: one place in INT8, the rest in FP32\n"
        f"{report['method']} of {report['calibration_images']} images, "
        f"measured on {report['images']}",
        loc="left",
        fontsize=9,
    )
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
