"""A fine-tuning for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from swin_deploy.qat.run import QatResult
from swin_deploy.report.console import make_table


def print_qat(result: QatResult, console: Console) -> None:
    """Accuracies with their intervals, what was quantised, and how far graph and training agree."""
    report = result.report
    quantised, agreement = report["quantised"], report["agreement"]
    console.print(
        f"quantised: {len(quantised['gemms'])} products and {len(quantised['attentions'])} "
        f"attentions, for {report['settings']['kind']}"
    )
    console.print(f"loss, by epoch: {', '.join(f'{loss:.4f}' for loss in report['losses'])}")
    console.print(
        f"INT8 graph and training agree to {agreement['place_db']:.1f} dB or more in every place"
    )
    if report["accuracy"] is not None:
        table = make_table("", "", "top-1", "95 % interval", ">right")
        for when, graphs in report["accuracy"].items():
            for precision, found in graphs.items():
                table.add_row(f"{precision} {when}", *accuracy_cells(found))
        console.print(table)
    done = "nothing had to be done" if result.current else f"done in {report['seconds']:.1f} s"
    console.print(f"{done}: {result.path}")


def accuracy_cells(found: dict[str, Any]) -> tuple[str, str, str]:
    """Share, its interval, and counts, as ``measure_accuracy`` gives them."""
    low, high = found["interval"]
    return (
        f"{found['top1']:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{found['right']} of {found['images']}",
    )
