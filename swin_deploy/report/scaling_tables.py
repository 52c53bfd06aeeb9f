"""The tables that ``scaling`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table
from swin_deploy.report.cost_figures import megabytes

COSTS = {
    "flops": "FLOPs",
    "activation_bytes": "activation bytes, node by node",
    "compiled_bytes": "activation bytes, compiled",
    "time_ms": "time",
    "cpu_ms": "CPU time",
    "working_bytes": "working memory",
}


def print_scaling(report: dict[str, Any], path: Path, console: Console) -> None:
    """What was measured at every point, and the exponents."""
    console.print(
        f"FLOPs and bytes of the exported FP32 graph; time and memory of {report['runtime']}, "
        f"{show_threads(report)}, {report['rounds']} rounds, on {_machine(report)}",
        soft_wrap=True,
    )
    console.print()
    console.print(_points(report))
    console.print()
    for axis, other, title in (
        ("area", "batch", "exponents in the image's area"),
        ("batch", "area", "exponents in the batch"),
    ):
        fits = [fit for fit in report["fits"] if fit["axis"] == axis]
        if fits:
            console.print(_exponents(fits, other, title))
            console.print()
    console.print(f"report: {path}", soft_wrap=True)


def _points(report: dict[str, Any]) -> Any:
    compiled = any("compiled_bytes" in row for row in report["points"])
    table = make_table(
        "",
        "network", "image", ">batch", ">GFLOPs", ">activation MB",
        *([">compiled MB"] if compiled else []),
        ">ms", ">range", ">CPU ms", ">working MB", ">with network MB",
    )  # fmt: skip
    for row in report["points"]:
        table.add_row(
            row["network"],
            "x".join(map(str, row["image_size"])),
            str(row["batch"]),
            f"{row['flops'] / 1e9:.2f}",
            megabytes(row["activation_bytes"]),
            *([megabytes(row["compiled_bytes"])] if compiled else []),
            f"{row['time_ms']:.1f}",
            f"{row['time_low_ms']:.1f}-{row['time_high_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            _memory(row["working_bytes"]),
            _memory(row["peak_bytes"]),
        )
    return table


def _exponents(fits: list[dict[str, Any]], other: str, title: str) -> Any:
    table = make_table(
        f"{title}: 1 is linear, 2 is quadratic",
        "network", f">{other}", "cost", ">points", ">exponent", ">95 % interval",
        ">between the two largest",
    )  # fmt: skip
    for fit in fits:
        table.add_row(
            fit["network"],
            str(fit[other]),
            COSTS[fit["cost"]],
            str(fit["points"]),
            f"{fit['exponent']:.2f}",
            show_interval(fit),
            f"{fit['largest']:.2f}",
        )
    return table


def show_interval(fit: dict[str, Any]) -> str:
    """Of the exponent; two points have none."""
    return "-" if fit["low"] is None else f"{fit['low']:.2f} to {fit['high']:.2f}"


def show_threads(report: dict[str, Any]) -> str:
    """How many there were."""
    return "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"


def _memory(value: int | None) -> str:
    return "not known" if value is None else megabytes(value)


def _machine(report: dict[str, Any]) -> str:
    machine = report["machine"]
    return f"{machine['cores']} cores of {machine['processor']}"
