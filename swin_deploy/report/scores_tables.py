"""Multi-label and regression networks on photos with targets: the tables of ``evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swin_deploy.core.records import decode
from swin_deploy.measure.evaluate.scores_report import Figure, ScoresReport
from swin_deploy.report.evaluation_tables import effort_words
from swin_deploy.report.tables import Cell, Part, make_table, number, within


def scores_summary(content: dict[str, Any]) -> Iterator[Part]:
    """Figures, what differs from the first artifact, and who did the work."""
    report = decode(ScoresReport, content, "report", own=True)
    names = [figure.name for figure in report.artifacts[0].figures]
    columns = [f">{name} (95 % interval)" for name in names]
    at = "" if report.threshold is None else f", labels from {report.threshold:g} on"
    yield make_table(
        f"{report.images} images of {report.data}, {report.task}{at}",
        ["artifact", *columns],
        [[row.name, *_cells(row.figures, names, "{:.4f}")] for row in report.artifacts],
    )
    yield ""
    if report.pairs:
        yield make_table(
            f"Less {report.artifacts[0].name}, on the same images",
            ["artifact", *columns, ">largest difference", ">labels decided differently"],
            [
                [
                    pair.b,
                    *_cells(pair.figures, names, "{:+.4f}"),
                    number(pair.largest, ".2g"),
                    number(pair.decided_differently, ",d"),
                ]
                for pair in report.pairs
            ],
        )
        yield ""
    yield effort_words(report.work)
    yield f"report: {report.report}"


def _cells(figures: tuple[Figure, ...], names: list[str], form: str) -> list[Cell | str]:
    known = {figure.name: figure for figure in figures}
    return [
        within(known[name].value, *known[name].interval, form.format) if name in known else ""
        for name in names
    ]
