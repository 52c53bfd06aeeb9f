"""The tables that ``export`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.console import make_table
from swin_deploy.report.describe import NEVER_RUN, describe_stage, describe_weights
from swin_deploy.report.outputs import fold_outputs

if TYPE_CHECKING:
    from swin_deploy.pipeline.recommend import Recommendation


def print_run(result: RunResult, console: Console) -> None:
    """What was made, how long it took, and how it compares with the eager network."""
    header = result.header
    config, batch = header["variant"], header["batch"]
    batch_text = (
        str(batch["high"]) if batch["low"] == batch["high"] else f"{batch['low']}:{batch['high']}"
    )
    console.print(
        f"{config['name']}: {header['parameters']:,} parameters, "
        f"image {config['image_size'][0]}x{config['image_size'][1]}, batch {batch_text}",
        soft_wrap=True,
    )
    shapes = result.stages["export"].details["outputs"]
    if "interface" in result.stages:
        ends = result.stages["interface"].details["outputs"]
        shapes = {name: shape for name, (_, shape) in ends.items()}
    outputs = ", ".join(f"{name} ({', '.join(map(str, shapes[name]))})" for name in shapes)
    console.print(f"outputs: {outputs}", soft_wrap=True)
    console.print(f"weights: {describe_weights(header['weights'])}", soft_wrap=True)
    console.print()
    _print_stages(result, console)
    console.print()
    print_comparisons(result.verification["comparisons"], console)
    for name, reason in result.verification["not_run"].items():
        console.print(
            f"{NEVER_RUN}: {name}: {reason}; the graph that it was compiled from passed, and it is "
            "what its compiler wrote: no more is known of it",
            soft_wrap=True,
            style="bold yellow",
        )
    console.print()
    verb = (
        "nothing to do, all stages current" if len(result.current) == len(result.stages) else "done"
    )
    console.print(f"{verb} in {result.seconds:.1f} s: {result.path}", soft_wrap=True)


def print_recommendations(found: Sequence[Recommendation], console: Console) -> None:
    """Which precision to ship to each target, and why."""
    for one in found:
        verb = "by cost, for" if one.basis == "cost" else "ship to"
        console.print(f"{verb} {one.target}: {one.precision}, {one.reason}", soft_wrap=True)


BESIDE = {  # files that an engine comes with, by their ends
    ".kernels.json": "its kernels: swin-deploy cost",
    ".log": "what its compiler said",
}


def _print_stages(result: RunResult, console: Console) -> None:
    table = make_table("", "stage", "file", ">MB", "what", ">seconds")
    for name, record in result.stages.items():
        for path in record.outputs:
            beside = next((text for end, text in BESIDE.items() if path.endswith(end)), None)
            if beside is not None:
                size = (result.path / path).stat().st_size / 1e6
                table.add_row("", path, f"{size:.1f}", beside)
                continue
            table.add_row(
                name.partition(":")[0],
                path,
                f"{(result.path / path).stat().st_size / 1e6:.1f}",
                describe_stage(name, result.stages),
                "current" if name in result.current else f"{record.seconds:.1f}",
            )
    console.print(table)


def print_comparisons(comparisons: list[dict[str, Any]], console: Console) -> None:
    """A row per candidate and set of inputs; of several outputs the worst, or those that failed."""
    rows = fold_outputs(comparisons)
    several = any(row["outputs"] > 1 for row in rows)
    table = make_table(
        "against eager PyTorch fp32" + (": of each, the worst output" if several else ""),
        "candidate", "inputs", *(["output"] if several else []),
        ">SQNR dB", ">floor", ">cosine", ">max error", ">top-1", "verdict",
    )  # fmt: skip
    for row in rows:
        agreement = row["top1_agreement"]
        table.add_row(
            row["candidate"],
            row["inputs"],
            *([row["output"]] if several else []),
            _number(row["sqnr_db"], ".1f"),
            _number(row["floor_db"], ".0f"),
            _number(row["cosine"], ".7f"),
            _number(row["max_abs_error"], ".1e"),
            "" if agreement is None else f"{agreement:.0%}",
            "ok" if row["passed"] else f"FAILED: {row['reason']}",
        )
    console.print(table)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
