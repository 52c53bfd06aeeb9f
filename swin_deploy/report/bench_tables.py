"""The table that ``bench`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table
from swin_deploy.report.outputs import fold_outputs


def print_bench(report: dict[str, Any], console: Console) -> None:
    """A row per runner and batch, fastest meaning first: the speed-up, with its spread."""
    machine = report["machine"]
    console.print(
        f"{report['network']} on {machine['processor']}, {report['threads']} threads of "
        f"{machine['cores']} cores; torch {machine['packages']['torch']}, "
        f"onnxruntime {machine['packages']['onnxruntime']}",
        soft_wrap=True,
    )
    table = make_table(
        "", ">batch", "runner", ">p50 ms", ">p90 ms", ">p99 ms", ">images/s", ">speed-up", ">range"
    )
    for row in report["measurements"]:
        table.add_row(
            str(row["batch"]),
            row["name"],
            f"{row['p50_ms']:.2f}",
            f"{row['p90_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['images_per_s']:.1f}",
            f"{row['speedup']:.2f}x",
            f"{row['speedup_low']:.2f}-{row['speedup_high']:.2f}",
        )
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
        if row is not baselines[row["batch"]]:
            console.print(_verdict(row, baselines[row["batch"]]), soft_wrap=True)


def _verdict(row: dict[str, Any], reference: dict[str, Any]) -> str:
    """One sentence; "not faster" where any turn was slower, none where the machine was too busy."""
    baseline = reference["name"]
    if row["unstable"] or reference["unstable"]:
        return f"batch {row['batch']}: too unstable to compare {row['name']} with {baseline}"
    spread = f"{row['speedup_low']:.2f} to {row['speedup_high']:.2f} over the turns"
    if row["speedup_low"] > 1:
        return (
            f"batch {row['batch']}: {row['name']} is {row['speedup']:.2f} times as fast as "
            f"{baseline} ({spread})"
        )
    return f"batch {row['batch']}: {row['name']} is not reliably faster than {baseline} ({spread})"
