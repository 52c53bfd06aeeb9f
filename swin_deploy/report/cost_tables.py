"""What the compiler made of a run, kernel by kernel, alone and beside another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swin_deploy.engine.cost.kernels import PURPOSES
from swin_deploy.engine.cost.listing import total
from swin_deploy.report.run_tables import batch_text
from swin_deploy.report.tables import (
    Cell,
    Columns,
    Part,
    Table,
    alone,
    make_table,
    number,
    tabulate,
    text,
)
from swin_deploy.run.finished import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeCost:
    """What the kernels of one purpose cost; sizes are None where the batch is dynamic."""

    purpose: str
    kernels: int
    activation_bytes: int | None
    weight_bytes: int | None
    flops: int | None

    @property
    def moved_bytes(self) -> int | None:
        """Activations and weights."""
        return total((self.activation_bytes, self.weight_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCost:
    """An engine whose runtime lists its kernels."""

    name: str
    compiler: str
    batch: tuple[int, int]
    attentions: int
    fused_attentions: int
    purposes: tuple[PurposeCost, ...]
    warnings: tuple[str, ...]


def read_costs(run: Run, gone: Sequence[str] = ()) -> tuple[tuple[EngineCost, ...], str]:
    """The engines of a run, or none and the reason; ``gone`` are files that are not there.

    The listings are those that the export kept.
    """
    if not any(name.endswith(".kernels.json") for name in run.files):
        return (), "no engine of this run has a runtime that lists its kernels"
    if needed := [name for name in gone if name.endswith((".kernels.json", ".onnx"))]:
        return (), f"{needed[0]} is missing"
    from swin_deploy.measure.cost import CostRequest, report_cost

    report = report_cost(CostRequest(path=run.path), lambda _: None)
    return tuple(
        EngineCost(
            name=engine["name"],
            compiler=engine["compiler"],
            batch=(engine["batch"]["low"], engine["batch"]["high"]),
            attentions=engine["attentions"],
            fused_attentions=engine["fused_attentions"],
            purposes=tuple(_purposes(engine)),
            warnings=tuple(engine["warnings"]),
        )
        for engine in report["engines"]
    ), ""


def _purposes(engine: dict[str, Any]) -> list[PurposeCost]:
    rows = engine["purposes"]
    return [_purpose(name, rows[name]) for name in PURPOSES if name in rows]


def _purpose(name: str, row: dict[str, Any]) -> PurposeCost:
    sizes = {key: row[key] for key in ("kernels", "activation_bytes", "weight_bytes", "flops")}
    return PurposeCost(purpose=name, **sizes)


def bytes_cell(value: int | None) -> Cell:
    """MB of what was counted; not known where the batch is dynamic."""
    return _scaled(value, 1e6)


def _scaled(value: float | None, unit: float, form: str = ",.2f") -> Cell:
    return text("dynamic") if value is None else number(value / unit, form)


_PURPOSES: Columns[PurposeCost] = (
    ("purpose", lambda cost: cost.purpose),
    (">kernels", lambda cost: number(cost.kernels, "d")),
    (">activations (MB)", lambda cost: bytes_cell(cost.activation_bytes)),
    (">weights (MB)", lambda cost: bytes_cell(cost.weight_bytes)),
    (">GFLOPs", lambda cost: _scaled(cost.flops, 1e9)),
)


def purposes_table(engines: Iterable[tuple[str, EngineCost]]) -> Table:
    """A row per engine and purpose."""
    rows = [
        (label, one.name, *(cell(cost) for _, cell in _PURPOSES))
        for label, one in engines
        for cost in one.purposes
    ]
    columns = ("run", "engine", *(title for title, _ in _PURPOSES))
    return make_table("What the compiler made, by purpose", columns, rows)


def cost_summary(report: dict[str, Any], blocks: bool, kernels: bool) -> Iterator[Part]:
    """By purpose of every engine, and what was asked for beside it."""
    gpu = report["gpu"]
    for index, engine in enumerate(report["engines"]):
        if index:
            yield ""
        yield from _engine(engine, gpu)
        if blocks:
            yield ""
            yield _blocks(engine)
        if kernels and not report["comparisons"]:
            yield ""
            yield "every kernel, in the order in which they run; FLOPs in millions"
            yield _kernels(engine, gpu)
    for comparison in report["comparisons"]:
        yield ""
        yield from _comparison(report["engines"][0], comparison, gpu)
        if kernels:
            yield ""
            yield comparison["kernel_diff"] or "no kernel differs"


def _engine(engine: dict[str, Any], gpu: dict[str, Any] | None) -> Iterator[Part]:
    totals = engine["totals"]
    yield f"{engine['name']}, batch {batch_text(engine['batch'])}, compiled by {engine['compiler']}"
    yield ""
    whole = _purpose("total", totals)
    columns: list[tuple[str, Callable[[PurposeCost], Cell | str]]] = [
        *_PURPOSES,
        (">share of bytes", lambda cost: _share(cost.moved_bytes, whole.moved_bytes)),
    ]
    if gpu:
        sums = engine["purposes"] | {"total": totals}
        columns.append(
            (">us at least", lambda cost: _scaled(sums[cost.purpose]["estimate_s"], 1e-6, ",.1f"))
        )
    yield tabulate("", columns, alone([*_purposes(engine), whole]))
    rate = "bytes and FLOPs depend on the batch, which is dynamic"
    if totals["flops_per_byte"] is not None:
        rate = f"{totals['flops_per_byte']:.1f} FLOP per byte moved"
    yield f"fused attentions: {engine['fused_attentions']} of {engine['attentions']}; {rate}"
    if gpu is not None:
        yield _estimate(engine, gpu)
    yield from (f"warning: {warning}" for warning in engine["warnings"])


def _share(part: int | None, whole: int | None) -> str:
    return "-" if part is None or not whole else f"{part / whole:.0%}"


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


def _blocks(engine: dict[str, Any]) -> Table:
    own = engine["blocks"]
    inner = [p for p in PURPOSES if any(p in row for name, row in own.items() if name[0] != "(")]
    rows = []
    for block, found in own.items():
        costs = {purpose: _purpose(purpose, row) for purpose, row in found.items()}
        moved = (bytes_cell(costs[p].moved_bytes) if p in costs else "" for p in inner)
        rows.append((
            block,
            str(sum(cost.kernels for cost in costs.values())),
            *moved,
            bytes_cell(total(cost.moved_bytes for cost in costs.values())),
            _scaled(total(cost.flops for cost in costs.values()), 1e9),
        ))  # fmt: skip
    columns = ("block", ">kernels", *(f">{purpose}" for purpose in inner), ">total", ">GFLOPs")
    return make_table("MB moved in each block, weights included", columns, rows)


def _kernels(engine: dict[str, Any], gpu: dict[str, Any] | None) -> Table:
    columns: list[tuple[str, Callable[[tuple[int, Any]], Cell | str]]] = [
        (">#", lambda row: str(row[0])),
        ("purpose", lambda row: row[1]["purpose"] + ("+permute" if row[1]["permutes"] else "")),
        ("block", lambda row: row[1]["block"]),
        ("kind", lambda row: "fused mha" if row[1]["fused_attention"] else row[1]["kind"]),
        ("dtype", lambda row: row[1]["dtype"]),
        (">act kB", lambda row: _scaled(row[1]["activation_bytes"], 1e3, ",.1f")),
        (">weight kB", lambda row: _scaled(row[1]["weight_bytes"], 1e3, ",.1f")),
        (">MFLOPs", lambda row: _scaled(row[1]["flops"], 1e6, ",.1f")),
        (">us", lambda row: _scaled(row[1]["estimate_s"], 1e-6, ",.1f") if gpu else ""),
        ("ONNX nodes", lambda row: _nodes(row[1])),  # what fits; --json has all of it
    ]
    return replace(tabulate("", columns, alone(enumerate(engine["kernels"]))), cut=True)


def _nodes(kernel: dict[str, Any]) -> str:
    block = kernel["block"]
    return ", ".join(
        node.removeprefix(block).lstrip("./") if block else node for node in kernel["onnx_nodes"]
    )


def _comparison(
    engine: dict[str, Any], comparison: dict[str, Any], gpu: dict[str, Any] | None
) -> Iterator[Part]:
    """Totals, and bytes by purpose, with what this engine has more or less than the other."""
    other, difference = comparison["other"], comparison["difference"]
    yield (
        f"{engine['name']} (batch {batch_text(engine['batch'])}) beside {other['name']} (batch "
        f"{batch_text(other['batch'])}, compiled by {other['compiler']})"
    )
    yield ""
    figures: list[tuple[str, str, Callable[[Any], Cell]]] = [
        ("kernels", "kernels", lambda value: number(value, "d")),
        ("activations (MB)", "activation_bytes", bytes_cell),
        ("weights (MB)", "weight_bytes", bytes_cell),
        ("GFLOPs", "flops", lambda value: _scaled(value, 1e9)),
    ]
    figures += (
        [("us at least", "estimate_s", lambda value: _scaled(value, 1e-6, ",.1f"))] if gpu else []
    )
    rows: list[tuple[Cell | str, ...]] = []
    for title, key, show in figures:
        ours, theirs = engine["totals"][key], other["totals"][key]
        rows.append((title, show(ours), show(theirs), *_change(ours, theirs, show)))
    fused = [f"{e['fused_attentions']} of {e['attentions']}" for e in (engine, other)]
    rows.append(("fused attentions", *fused, f"{difference['fused_attentions']:+d}", ""))
    yield make_table("", ("", ">this", ">other", ">difference", ">in %"), rows)
    yield ""
    nothing = {"kernels": 0, "activation_bytes": 0, "weight_bytes": 0, "flops": 0}
    pairs = [
        (
            _purpose(name, engine["purposes"].get(name, nothing)),
            _purpose(name, other["purposes"].get(name, nothing)),
        )
        for name in PURPOSES
        if name in difference["purposes"]
    ]
    columns: Columns[tuple[PurposeCost, PurposeCost]] = (
        ("purpose", lambda pair: pair[0].purpose),
        (">kernels", lambda pair: str(pair[0].kernels)),
        (">other", lambda pair: str(pair[1].kernels)),
        (">activations (MB)", lambda pair: bytes_cell(pair[0].activation_bytes)),
        (">other", lambda pair: bytes_cell(pair[1].activation_bytes)),
        (
            ">difference",
            lambda pair: _change(pair[0].activation_bytes, pair[1].activation_bytes, bytes_cell)[0],
        ),
        (">weights (MB)", lambda pair: bytes_cell(pair[0].weight_bytes)),
        (">other", lambda pair: bytes_cell(pair[1].weight_bytes)),
    )
    yield tabulate("by purpose", columns, alone(pairs))
    yield from (f"warning, {other['name']}: {warning}" for warning in other["warnings"])


def _change(ours: Any, theirs: Any, show: Callable[[Any], Cell]) -> tuple[str, str]:
    if ours is None or theirs is None:
        return "-", ""
    sign = "+" if ours >= theirs else "-"
    percent = f"{100 * (ours - theirs) / theirs:+.0f}" if theirs else ""
    return sign + show(abs(ours - theirs)).text, percent
