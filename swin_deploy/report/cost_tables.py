"""The tables that ``cost`` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from swin_deploy.engine.purpose import PURPOSES
from swin_deploy.report.console import make_table

_DYNAMIC = "dynamic"


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
        _print_comparison(report["engines"][0], comparison, report["gpu"], console)
        if kernels:
            console.print()
            console.print(comparison["kernel_diff"] or "no kernel differs", soft_wrap=True)


def _print_engine(engine: dict[str, Any], gpu: dict[str, Any] | None, console: Console) -> None:
    totals = engine["totals"]
    console.print(
        f"{engine['name']}, batch {_batch(engine)}, compiled by {engine['compiler']}",
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
        cells = [_megabytes(_moved(row[p])) if p in row else "" for p in inner]
        table.add_row(
            block,
            str(sum(part["kernels"] for part in row.values())),
            *cells,
            _megabytes(_add(_moved(part) for part in row.values())),
            _giga(_add(part["flops"] for part in row.values())),
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
            _scaled(kernel["activation_bytes"], 1e3),
            _scaled(kernel["weight_bytes"], 1e3),
            _scaled(kernel["flops"], 1e6),
            *_time(kernel, gpu),
            Text(nodes, no_wrap=True, overflow="ellipsis"),  # what fits; --json has all of it
        )
    for column in table.columns[:-1]:
        column.no_wrap = True
    console.print(table)


def _print_comparison(
    engine: dict[str, Any], comparison: dict[str, Any], gpu: dict[str, Any] | None, console: Console
) -> None:
    other, difference = comparison["other"], comparison["difference"]
    console.print(
        f"{engine['name']} (batch {_batch(engine)}) beside {other['name']} (batch "
        f"{_batch(other)}, compiled by {other['compiler']})",
        soft_wrap=True,
    )
    console.print()
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("kernels", "kernels", str),
        ("activation MB", "activation_bytes", _megabytes),
        ("weight MB", "weight_bytes", _megabytes),
        ("GFLOPs", "flops", _giga),
        *([("us at least", "estimate_s", _micro)] if gpu else []),
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
            *map(_megabytes, pair),
            _change(*pair, _megabytes)[0],
            _megabytes(ours["weight_bytes"]),
            _megabytes(theirs["weight_bytes"]),
        )
    console.print(table)
    for warning in other["warnings"]:
        console.print(f"warning, {other['name']}: {warning}", soft_wrap=True)


def _figures(row: dict[str, Any], gpu: dict[str, Any] | None) -> list[str]:
    return [
        str(row["kernels"]),
        _megabytes(row["activation_bytes"]),
        _megabytes(row["weight_bytes"]),
        _giga(row["flops"]),
    ]


def _share(row: dict[str, Any], totals: dict[str, Any]) -> str:
    part, whole = _moved(row), _moved(totals)
    return "-" if part is None or not whole else f"{part / whole:.0%}"


def _time(row: dict[str, Any], gpu: dict[str, Any] | None) -> list[str]:
    return [] if gpu is None else [_micro(row["estimate_s"])]


def _change(ours: Any, theirs: Any, show: Callable[[Any], str]) -> tuple[str, str]:
    if ours is None or theirs is None:
        return "-", ""
    sign = "+" if ours >= theirs else "-"
    percent = f"{(ours - theirs) / theirs:+.0%}" if theirs else ""
    return sign + show(abs(ours - theirs)), percent


def _moved(row: dict[str, Any]) -> int | None:
    return _add((row["activation_bytes"], row["weight_bytes"]))


def _add(values: Any) -> int | None:
    values = list(values)
    return None if None in values else sum(values)


def _scaled(value: float | None, unit: float, form: str = ".1f") -> str:
    return _DYNAMIC if value is None else format(value / unit, form)


def _megabytes(value: int | None) -> str:
    return _scaled(value, 1e6)


def _giga(value: int | None) -> str:
    return _scaled(value, 1e9, ".2f")


def _micro(value: float | None) -> str:
    return _scaled(value, 1e-6)


def _short(node: str, block: str) -> str:
    return node.removeprefix(block).lstrip("./") if block else node


def _batch(engine: dict[str, Any]) -> str:
    low, high = engine["batch"]["low"], engine["batch"]["high"]
    return str(high) if low == high else f"{low}:{high}"
