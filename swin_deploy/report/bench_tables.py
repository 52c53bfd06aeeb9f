"""The table that ``bench`` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table
from swin_deploy.report.outputs import fold_outputs

Cell = Callable[[dict[str, Any]], str]
_FIGURES = (  # column, key, decimals
    (">p50 ms", "p50_ms", 2),
    (">p90 ms", "p90_ms", 2),
    (">p95 ms", "p95_ms", 2),
    (">p99 ms", "p99_ms", 2),
    (">mean ms", "mean_ms", 2),
    (">std ms", "std_ms", 2),
    (">images/s", "images_per_s", 1),
)
_WHERE_MEASURED = (  # likewise, where any row has them
    (">GPU ms", "gpu_ms", 3),
    (">enqueue ms", "enqueue_ms", 3),
    (">upload ms", "upload_ms", 3),
    (">download ms", "download_ms", 3),
    (">J/image", "joules_per_image", 3),
)


def print_bench(report: dict[str, Any], console: Console) -> None:
    """A row per runner and batch, then what was compared, warnings, and a verdict per engine."""
    machine = report["machine"]
    console.print(
        f"{report['network']} on {machine['processor']}, {report['threads']} threads of "
        f"{machine['cores']} cores; torch {machine['packages']['torch']}, "
        f"onnxruntime {machine['packages']['onnxruntime']}",
        soft_wrap=True,
    )
    columns: list[tuple[str, Cell]] = [
        (">batch", lambda row: str(row["batch"])),
        ("runner", lambda row: row["name"]),
    ]
    columns += [(title, _figure(key, digits)) for title, key, digits in _FIGURES]
    columns += [
        (title, _figure(key, digits))
        for title, key, digits in _WHERE_MEASURED
        if any(row[key] is not None for row in report["measurements"])
    ]
    columns += [
        (">speed-up", lambda row: f"{row['speedup']:.2f}x"),
        (">95 % interval", lambda row: f"{row['speedup_low']:.2f}-{row['speedup_high']:.2f}"),
    ]
    table = make_table("", *(title for title, _ in columns))
    for row in report["measurements"]:
        table.add_row(*(cell(row) for _, cell in columns))
    console.print(table)
    for check in fold_outputs(report["checks"]):
        distance = "equal" if check["sqnr_db"] is None else f"SQNR {check['sqnr_db']:.1f} dB"
        if check["floor_db"] is None:  # INT8 on noise: it was judged when it was exported
            console.print(
                f"{check['candidate']} gives numbers on {check['inputs']}: {distance}, not judged",
                soft_wrap=True,
            )
            continue
        console.print(
            f"{check['candidate']} agrees with eager on {check['inputs']}: "
            f"{distance}, floor {check['floor_db']:.0f} dB"
            + (f", the worst of {check['outputs']} outputs" if check["outputs"] > 1 else ""),
            soft_wrap=True,
        )
    for name, reason in report["not_run"].items():
        console.print(f"{name} was not measured: {reason}", soft_wrap=True)
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True)
    baselines = {row["batch"]: row for row in reversed(report["measurements"])}
    for row in report["measurements"]:
        if row["role"] == "candidate":
            console.print(_verdict(row, baselines[row["batch"]]["name"]), soft_wrap=True)


def _figure(key: str, digits: int) -> Cell:
    return lambda row: "" if row[key] is None else f"{row[key]:.{digits}f}"


def _verdict(row: dict[str, Any], baseline: str) -> str:
    """One sentence, by the verdict of the measurement."""
    interval = f"95 % interval {row['speedup_low']:.2f} to {row['speedup_high']:.2f}"
    ends = {
        "faster": f"is {row['speedup']:.2f} times as fast as {baseline} ({interval})",
        "slower": f"is slower than {baseline}: {row['speedup']:.2f} times as fast ({interval})",
        "not told apart": f"is not reliably faster than {baseline} ({interval})",
    }
    return f"batch {row['batch']}: {row['name']} {ends[row['verdict']]}"
