"""The tables that ``cost`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from swin_deploy.engine.purpose import PURPOSES
from swin_deploy.report.console import make_table
from swin_deploy.report.cost_comparison import print_comparison
from swin_deploy.report.cost_figures import (
    add_known,
    batch_text,
    giga,
    megabytes,
    micro,
    moved,
    scaled,
)


def print_cost(report: dict[str, Any], console: Console, blocks: bool, kernels: bool) -> None:
    """A summary by purpose of every engine, and what was asked for beside it."""
    for index, engine in enumerate(report["engines"]):
        if index:
            console.print()
        _print_engine(engine, report["gpu"], console)
        if blocks:
            console.print()
            _print_blocks(engine, console)
        if kernels and not report["comparisons"]:
            console.print()
            _print_kernels(engine, report["gpu"], console)
    for comparison in report["comparisons"]:
        console.print()
        print_comparison(report["engines"][0], comparison, report["gpu"], console)
        if kernels:
            console.print()
            console.print(comparison["kernel_diff"] or "no kernel differs", soft_wrap=True)


def _print_engine(engine: dict[str, Any], gpu: dict[str, Any] | None, console: Console) -> None:
    totals = engine["totals"]
    console.print(
        f"{engine['name']}, batch {batch_text(engine)}, compiled by {engine['compiler']}",
        soft_wrap=True,
    )
    console.print()
    table = make_table(
        "", "purpose", ">kernels", ">activation MB", ">weight MB", ">GFLOPs", ">share of bytes",
        *([">us at least"] if gpu else []),
    )  # fmt: skip
    for name in (purpose for purpose in PURPOSES if purpose in engine["purposes"]):
        row = engine["purposes"][name]
        table.add_row(name, *_figures(row, gpu), _share(row, totals), *_time(row, gpu))
    table.add_row("total", *_figures(totals, gpu), _share(totals, totals), *_time(totals, gpu))
    console.print(table)
    console.print(
        f"fused attentions: {engine['fused_attentions']} of {engine['attentions']}; "
        + _intensity(totals),
        soft_wrap=True,
    )
    if gpu is not None:
        console.print(_estimate(engine, gpu), soft_wrap=True)
    for warning in engine["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True)


def _intensity(totals: dict[str, Any]) -> str:
    if totals["flops_per_byte"] is None:
        return "bytes and FLOPs depend on the batch, which is dynamic"
    return f"{totals['flops_per_byte']:.1f} FLOP per byte moved"


def _estimate(engine: dict[str, Any], gpu: dict[str, Any]) -> str:
    seconds = engine["totals"]["estimate_s"]
    if seconds is None:
        return f"no estimate for {gpu['name']}: the batch is dynamic"
    memory = sum(k["estimate_s"] for k in engine["kernels"] if k["bound"] == "memory")
    return (
        f"estimate for {gpu['name']}: at least {seconds * 1e6:.0f} us, {memory / seconds:.0%} of "
        "it bound by memory. A roofline of every kernel, without launches; not a measurement. "
        f"Rates: {gpu['source']}"
    )


def _print_blocks(engine: dict[str, Any], console: Console) -> None:
    inner = [
        p for p in PURPOSES if any(p in row for b, row in engine["blocks"].items() if b[0] != "(")
    ]
    table = make_table(
        "MB moved in each block, weights included",
        "block", ">kernels", *(f">{purpose}" for purpose in inner), ">total", ">GFLOPs",
    )  # fmt: skip
    for block, row in engine["blocks"].items():
        cells = [megabytes(moved(row[p])) if p in row else "" for p in inner]
        table.add_row(
            block,
            str(sum(part["kernels"] for part in row.values())),
            *cells,
            megabytes(add_known(moved(part) for part in row.values())),
            giga(add_known(part["flops"] for part in row.values())),
        )
    console.print(table)


def _print_kernels(engine: dict[str, Any], gpu: dict[str, Any] | None, console: Console) -> None:
    console.print("every kernel, in the order in which they run; FLOPs in millions", soft_wrap=True)
    table = make_table(
        "", ">#", "purpose", "block", "kind", "dtype", ">act kB", ">weight kB", ">MFLOPs",
        *([">us"] if gpu else []), "ONNX nodes",
    )  # fmt: skip
    for number, kernel in enumerate(engine["kernels"]):
        purpose = kernel["purpose"] + ("+permute" if kernel["permutes"] else "")
        nodes = ", ".join(_short(node, kernel["block"]) for node in kernel["onnx_nodes"])
        table.add_row(
            str(number),
            purpose,
            kernel["block"],
            "fused mha" if kernel["fused_attention"] else kernel["kind"],
            kernel["dtype"],
            scaled(kernel["activation_bytes"], 1e3),
            scaled(kernel["weight_bytes"], 1e3),
            scaled(kernel["flops"], 1e6),
            *_time(kernel, gpu),
            Text(nodes, no_wrap=True, overflow="ellipsis"),  # what fits; --json has all of it
        )
    for column in table.columns[:-1]:
        column.no_wrap = True
    console.print(table)


def _figures(row: dict[str, Any], gpu: dict[str, Any] | None) -> list[str]:
    return [
        str(row["kernels"]),
        megabytes(row["activation_bytes"]),
        megabytes(row["weight_bytes"]),
        giga(row["flops"]),
    ]


def _share(row: dict[str, Any], totals: dict[str, Any]) -> str:
    part, whole = moved(row), moved(totals)
    return "-" if part is None or not whole else f"{part / whole:.0%}"


def _time(row: dict[str, Any], gpu: dict[str, Any] | None) -> list[str]:
    return [] if gpu is None else [micro(row["estimate_s"])]


def _short(node: str, block: str) -> str:
    return node.removeprefix(block).lstrip("./") if block else node
