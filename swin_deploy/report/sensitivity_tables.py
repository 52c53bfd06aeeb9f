"""The tables that ``sensitivity`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table
from swin_deploy.report.cost_figures import megabytes


def print_sensitivity(report: dict[str, Any], path: Path, console: Console) -> None:
    """A row per place, the most sensitive first, and what the search found."""
    labelled = report["fp32"]["right"] is not None
    console.print(
        f"{report['network']}: {len(report['places'])} places that {report['recipe']} quantises, "
        f"{report['method']} of {report['calibration_images']} images; measured on "
        f"{report['images']} images against FP32 on ONNX Runtime",
        soft_wrap=True,
    )
    console.print()
    table = make_table(
        "one place in INT8, the rest in FP32; the most sensitive first",
        "place", "kind", ">SQNR dB", ">worst image", ">same class",
        *([">top-1", ">drop"] if labelled else []),
    )  # fmt: skip
    for row in report["places"]:
        table.add_row(row["name"], row["kind"], *_figures(row, labelled))
    table.add_row("all of them", "", *_figures(report["all"], labelled))
    console.print(table)
    if labelled:
        console.print(f"FP32: top-1 {_accuracy(report['fp32'])}", soft_wrap=True)
        console.print(f"all places in INT8: top-1 {_accuracy(report['all'])}", soft_wrap=True)
    if report["mixed"] is not None:
        console.print()
        _print_mixed(report["mixed"], len(report["places"]), labelled, console)
    console.print()
    console.print(f"report: {path}", soft_wrap=True)


def _print_mixed(mixed: dict[str, Any], places: int, labelled: bool, console: Console) -> None:
    goal = (
        f"at most {mixed['max_drop_points']:g} points of top-1 lost"
        if mixed["min_sqnr_db"] is None
        else f"{mixed['min_sqnr_db']:g} dB on the worst image"
    )
    console.print(
        f"{goal}: {len(mixed['left'])} of {places} places stay in FP16"
        + (
            f" ({mixed['placements_tried']} placements tried; fewer may do)"
            if mixed["left"]
            else ""
        ),
        soft_wrap=True,
    )
    for name in mixed["left"]:
        console.print(f"  {name}" + ("" if name in mixed["keep"] else " (with its pair)"))
    result = f"SQNR {_decibels(mixed['mean_sqnr_db'])} dB, worst image "
    result += f"{_decibels(mixed['sqnr_db'])} dB"
    if labelled:
        result = f"top-1 {_accuracy(mixed)}, {mixed['drop_points']:+.2f} points lost; {result}"
    console.print(result, soft_wrap=True)
    if mixed["cost"] is not None:
        _print_costs(mixed["cost"], console)
    if mixed["keep"] and mixed["quantised"]:
        names = ",".join(mixed["keep"])
        console.print(f"swin-deploy export --int8-keep {names}", soft_wrap=True)


def _print_costs(costs: dict[str, Any], console: Console) -> None:
    titles = {"all": "all places in INT8", "mixed": "with those in FP16"}
    table = make_table(
        f"compiled by {costs['all']['compiler']}",
        "engine", ">kernels", ">fused attentions", ">activation MB", ">weight MB",
    )  # fmt: skip
    for name, cost in costs.items():
        if cost is not None:
            table.add_row(
                titles[name],
                str(cost["kernels"]),
                str(cost["fused_attentions"]),
                megabytes(cost["activation_bytes"]),
                megabytes(cost["weight_bytes"]),
            )
    console.print(table)


def _figures(row: dict[str, Any], labelled: bool) -> list[str]:
    figures = [
        _decibels(row["mean_sqnr_db"]),
        _decibels(row["sqnr_db"]),
        f"{row['agreement']:.1%}",
    ]
    if labelled:
        figures += [f"{row['accuracy']:.2%}", f"{row['drop_points']:+.2f}"]
    return figures


def _decibels(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"


def _accuracy(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})"
