"""The tables that ``evaluate`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from swin_deploy.report.console import make_table

_CONFUSED = 3  # pairs of classes that have room in a line
_SHOWN = 5  # images that flipped


def print_evaluation(report: dict[str, Any], console: Console) -> None:
    """A row per artifact, and one for each of the others beside the first."""
    table = make_table(
        f"{report['images']} images of {report['data']}",
        "artifact", ">top-1", ">95 % interval", ">top-5", ">95 % interval", ">right",
    )  # fmt: skip
    for row in report["artifacts"]:
        top5 = ("", "") if row["top5"] is None else _shares(row["top5"])
        table.add_row(row["name"], *_shares(row["top1"]), *top5, str(row["top1"]["right"]))
    console.print(table)
    if report["pairs"]:
        console.print()
        _print_pairs(report, console)
    work = report["work"]
    rate = f", {work['images_per_s']:.0f} images/s" if work["images_per_s"] else ""
    console.print()
    console.print(
        f"{work['images']} images by {_workers(work)} in {work['seconds']:.1f} s{rate}",
        soft_wrap=True,
    )
    console.print(f"report: {report['report']}", soft_wrap=True)


def class_text(report: dict[str, Any], index: int) -> str:
    """The name of a class, or its number where names are not known."""
    names = report["class_names"]
    return "none" if index < 0 else names[index] if names else str(index)


def _print_pairs(report: dict[str, Any], console: Console) -> None:
    table = make_table(
        f"beside {report['pairs'][0]['a']}",
        "artifact", ">points lost", ">95 % interval", ">worse", ">better", ">differ",
        ">McNemar p",
    )  # fmt: skip
    for pair in report["pairs"]:
        low, high = pair["interval_points"]
        table.add_row(
            pair["b"],
            f"{pair['drop_points']:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            str(pair["only_a_right"]),
            str(pair["only_b_right"]),
            str(pair["disagreements"]),
            f"{pair['p_value']:.2g}",
        )
    console.print(table)
    for pair in report["pairs"]:
        if pair["confusion"]:
            most = "; ".join(
                f"{class_text(report, row['a'])} as {class_text(report, row['b'])} {row['images']}"
                for row in pair["confusion"][:_CONFUSED]
            )
            console.print(f"{pair['b']} names most often another class: {most}", soft_wrap=True)
        for flip in pair["flips"][:_SHOWN]:
            named = {key: class_text(report, flip[key]) for key in ("label", "a", "b")}
            console.print(
                f"  {flip['change']}: {flip['image']} is {named['label']}, "
                f"was named {named['a']} and is named {named['b']}",
                soft_wrap=True,
            )
        if len(pair["flips"]) > _SHOWN:
            console.print(f"  and {len(pair['flips']) - _SHOWN} more, in the report")


def _shares(found: dict[str, Any]) -> tuple[str, str]:
    low, high = found["interval"]
    return f"{found['share']:.2%}", f"{low:.2%} to {high:.2%}"


def _workers(work: dict[str, Any]) -> str:
    if work["by"] == "one process":
        return "one process"
    return f"{work['workers']} {'workers on Ray' if work['by'] == 'ray' else 'processes'}"
