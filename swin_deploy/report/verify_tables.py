"""The tables that ``verify`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table
from swin_deploy.report.outputs import fold_outputs

_TITLES = {
    "outputs": "outputs",
    "slots": "one image in every slot of a batch, against itself alone",
    "saved": "outputs that were saved, against those of this machine",
}


def print_verify(report: dict[str, Any], console: Console) -> None:
    """What was compared, where two sides part, what did not run, and the verdict."""
    for kind, title in _TITLES.items():
        rows = [row for row in report["checks"] if row["kind"] == kind]
        if rows:
            _print_checks(_worst_of_slots(rows) if kind == "slots" else rows, title, console)
            console.print()
    for reason in dict.fromkeys(r["reason"] for r in report["checks"] if not r["judged"]):
        console.print(reason, soft_wrap=True)
    for found in report["bisections"]:
        _print_bisection(found, console)
        console.print()
    for name, reason in report["not_run"].items():
        console.print(f"{name} was not run here: {reason}", soft_wrap=True)
    if exact := report["converted_exactly"]:
        names = ", ".join(name.upper() for name in exact)
        console.print(f"compared exactly with what they were made from: {names}", soft_wrap=True)
    judged = sum(row["judged"] for row in report["checks"])
    rest = len(report["checks"]) - judged
    others = f", {rest} reported and not judged" if rest else ""
    verdict = "passed" if report["passed"] else f"FAILED: {report['problem']}"
    console.print(f"{judged} comparisons judged{others}: {verdict}", soft_wrap=True)


def _worst_of_slots(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that failed, and of every other side the batch that is nearest its floor."""
    shown = []
    for name in dict.fromkeys(row["candidate"] for row in rows):
        own = [row for row in rows if row["candidate"] == name]
        failed = [row for row in own if not row["passed"]]
        shown += failed or [min(own, key=lambda row: row["sqnr_db"] or float("inf"))]
    return shown


def _print_checks(rows: list[dict[str, Any]], title: str, console: Console) -> None:
    folded = fold_outputs(rows)
    several = any(row["outputs"] > 1 for row in folded)
    table = make_table(
        title + (": of each, the worst output" if several else ""),
        "candidate", "reference", "inputs", *(["output"] if several else []),
        ">SQNR dB", ">floor", ">cosine", ">max error", ">top-1", "verdict",
    )  # fmt: skip
    for row in folded:
        agreement = row["top1_agreement"]
        table.add_row(
            row["candidate"],
            row["reference"],
            row["inputs"],
            *([row["output"]] if several else []),
            *_numbers(row, row["passed"]),
            "" if agreement is None else f"{agreement:.0%}",
            _verdict(row),
        )
    console.print(table)


def _verdict(row: dict[str, Any]) -> str:
    if not row["passed"]:
        return f"FAILED: {row['reason']}"
    return "ok" if row["judged"] else "not judged"


def _numbers(row: dict[str, Any], passed: bool) -> list[str]:
    """SQNR, floor, cosine and largest error as texts; what JSON has no number for is named."""
    sqnr = row["sqnr_db"]
    return [
        ("equal" if passed else "-") if sqnr is None else f"{sqnr:.1f}",
        "-" if row["floor_db"] is None else f"{row['floor_db']:.0f}",
        "-" if row["cosine"] is None else f"{row['cosine']:.7f}",
        "-" if row["max_abs_error"] is None else f"{row['max_abs_error']:.1e}",
    ]


def _print_bisection(found: dict[str, Any], console: Console) -> None:
    title = f"{found['candidate']} against {found['reference']}, along the depth"
    _print_tensors(found, found["rows"], title, console)
    if found["inside"]:
        console.print()
        _print_tensors(found, found["inside"], f"inside {found['block']}", console)
    leaving = [
        f"{name} {_numbers(row | {'floor_db': None}, not row['reason'])[0]}"
        for name, row in found["stages"].items()
    ]
    console.print(f"dB where each stage ends: {', '.join(leaving)}", soft_wrap=True)
    first, drop = found["first"], found["largest_drop"]
    if first is not None:
        console.print(
            f"first tensor that leaves its floor: {first['tensor']} ({first['stage']}; "
            f"{first['reason']} on {first['inputs']})",
            soft_wrap=True,
        )
    elif found["floor_db"] is not None:
        console.print(f"every tensor has at least {found['floor_db']:.0f} dB", soft_wrap=True)
    if drop is not None and drop["drop_db"] is not None:
        console.print(
            f"largest single drop: {drop['drop_db']:.1f} dB, at {drop['tensor']}", soft_wrap=True
        )
    if found["unmatched"]:
        console.print(f"only in one of them: {', '.join(found['unmatched'])}", soft_wrap=True)
    for note in found["notes"]:
        console.print(note, soft_wrap=True)


def _print_tensors(
    found: dict[str, Any], rows: list[dict[str, Any]], title: str, console: Console
) -> None:
    table = make_table(
        title, ">depth", "stage", "tensor", ">SQNR dB", ">floor", ">cosine", ">max error", "verdict"
    )
    for depth, row in enumerate(rows):
        wrong = bool(row["reason"])
        table.add_row(
            str(depth),
            row["stage"],
            row["tensor"],
            *_numbers(row | {"floor_db": found["floor_db"]}, not wrong),
            "BELOW ITS FLOOR" if wrong and row["sqnr_db"] is not None else row["reason"],
        )
    console.print(table)
