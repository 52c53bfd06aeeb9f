"""Two engines side by side, as ``cost --compare`` prints them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from swin_deploy.engine.purpose import PURPOSES
from swin_deploy.report.console import make_table
from swin_deploy.report.cost_figures import batch_text, giga, megabytes, micro


def print_comparison(
    engine: dict[str, Any], comparison: dict[str, Any], gpu: dict[str, Any] | None, console: Console
) -> None:
    """Totals, and bytes by purpose, with what this engine has more or less than the other."""
    other, difference = comparison["other"], comparison["difference"]
    console.print(
        f"{engine['name']} (batch {batch_text(engine)}) beside {other['name']} (batch "
        f"{batch_text(other)}, compiled by {other['compiler']})",
        soft_wrap=True,
    )
    console.print()
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("kernels", "kernels", str),
        ("activation MB", "activation_bytes", megabytes),
        ("weight MB", "weight_bytes", megabytes),
        ("GFLOPs", "flops", giga),
        *([("us at least", "estimate_s", micro)] if gpu else []),
    ]
    table = make_table("", "", ">this", ">other", ">difference", ">")
    for title, key, show in rows:
        ours, theirs = engine["totals"][key], other["totals"][key]
        table.add_row(title, show(ours), show(theirs), *_change(ours, theirs, show))
    fused = [f"{e['fused_attentions']} of {e['attentions']}" for e in (engine, other)]
    table.add_row("fused attentions", *fused, f"{difference['fused_attentions']:+d}")
    console.print(table)
    console.print()
    table = make_table(
        "by purpose", "purpose", ">kernels", ">other", ">act MB", ">other", ">difference",
        ">weight MB", ">other",
    )  # fmt: skip
    nothing = {"kernels": 0, "activation_bytes": 0, "weight_bytes": 0}
    for name in (purpose for purpose in PURPOSES if purpose in difference["purposes"]):
        ours = engine["purposes"].get(name, nothing)
        theirs = other["purposes"].get(name, nothing)
        pair = ours["activation_bytes"], theirs["activation_bytes"]
        table.add_row(
            name,
            str(ours["kernels"]),
            str(theirs["kernels"]),
            *map(megabytes, pair),
            _change(*pair, megabytes)[0],
            megabytes(ours["weight_bytes"]),
            megabytes(theirs["weight_bytes"]),
        )
    console.print(table)
    for warning in other["warnings"]:
        console.print(f"warning, {other['name']}: {warning}", soft_wrap=True)


def _change(ours: Any, theirs: Any, show: Callable[[Any], str]) -> tuple[str, str]:
    if ours is None or theirs is None:
        return "-", ""
    sign = "+" if ours >= theirs else "-"
    percent = f"{(ours - theirs) / theirs:+.0%}" if theirs else ""
    return sign + show(abs(ours - theirs)), percent
