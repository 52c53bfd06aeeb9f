"""Accuracy, and agreement with the eager network."""

from __future__ import annotations

from collections.abc import Sequence

from swin_deploy.evaluate.report import Pair, Right
from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.plots_numbers import Agreement, plot_agreement
from swin_deploy.report.page.section import Section, having, label_cell, named
from swin_deploy.report.page.sections_checks import failed_checks
from swin_deploy.report.page.tables import Cell, make_table, number, text, within
from swin_deploy.verify.comparison import ComparisonRow

_ABOVE_ALL = 1e9  # how equal results are sorted


def accuracy_section(data: ReportData) -> Section:
    """Top-1 and top-5 with intervals, and every artifact beside the first."""
    found = list(having(data, lambda source: source.evaluate))
    rows = [
        (
            label_cell(data, source),
            text(row.name),
            _share(row.top1),
            _share(row.top5) if row.top5 else text(""),
            number(row.top1.right, ",d"),
            number(evaluation.images, ",d"),
        )
        for source, evaluation in found
        for row in evaluation.artifacts
    ]
    columns = ("run", "artifact", ">top-1 (%, 95 % interval)", ">top-5 (%, 95 % interval)",
               ">right", ">images")  # fmt: skip
    tables = [make_table("Accuracy on labelled photos", columns, rows)] if rows else []
    pairs = [
        (
            label_cell(data, source),
            text(pair.b),
            text(pair.a),
            _drop(pair),
            number(pair.only_a_right, ",d"),
            number(pair.only_b_right, ",d"),
            number(pair.disagreements, ",d"),
            number(pair.p_value, ".2g"),
        )
        for source, evaluation in found
        for pair in evaluation.pairs
    ]
    others = ("run", "artifact", "beside", ">top-1 lost (points, 95 % interval)", ">worse",
               ">better", ">named differently", ">McNemar p")  # fmt: skip
    tables += [make_table("Image by image", others, pairs)] if pairs else []
    words = tuple(
        named(data, source, f"{evaluation.images:,} images of {evaluation.data}.")
        for source, evaluation in found
    )
    return Section(name="accuracy", title="Accuracy", words=words, tables=tuple(tables))


def agreement_section(data: ReportData) -> Section:
    """What ``verify`` found wrong, and every candidate against the eager network."""
    found = list(having(data, lambda source: source.verify))
    rows = [
        (
            label_cell(data, source),
            text(row.candidate),
            text("ok", "good") if row.passed else text(f"FAILED: {row.reason}", "bad"),
            text(row.inputs),
            text(row.output),
            _decibels(row),
            number(row.cosine, ".7f"),
            number(row.max_abs_error, ".1e"),
            number(None if row.top1_agreement is None else 100 * row.top1_agreement, ".0f"),
        )
        for source, verified in found
        for row in verified.comparisons
    ]
    columns = ("run", "candidate", "verdict", "inputs", "output", ">SQNR / floor (dB)",
               ">cosine", ">max error", ">same class (%)")  # fmt: skip
    tables = [make_table("Against eager FP32", columns, rows)] if rows else []
    nearest = [
        Agreement(named(data, source, name), row)
        for source, verified in found
        for name, row in nearest_floor(verified.comparisons).items()
    ]
    return Section(
        name="agreement",
        title="Agreement with eager PyTorch",
        figures=(plot_agreement(nearest),) if nearest else (),
        tables=(*failed_checks(data), *tables),
    )


def nearest_floor(rows: Sequence[ComparisonRow]) -> dict[str, ComparisonRow]:
    """Of every candidate a row that failed, else the one nearest its floor."""

    def distance(row: ComparisonRow) -> float:
        if not row.passed:
            return float("-inf")
        if row.sqnr_db is None or row.floor_db is None:
            return float("inf")
        return row.sqnr_db - row.floor_db

    found: dict[str, ComparisonRow] = {}
    for row in rows:
        if row.candidate not in found or distance(row) < distance(found[row.candidate]):
            found[row.candidate] = row
    return found


def _share(found: Right) -> Cell:
    low, high = found.interval
    return within(100 * found.share, 100 * low, 100 * high, "{:.2f}".format)


def _drop(pair: Pair) -> Cell:
    return within(pair.drop_points, *pair.interval_points, "{:+.2f}".format)


def _decibels(row: ComparisonRow) -> Cell:
    floor = "" if row.floor_db is None else f" / {row.floor_db:.0f}"
    if row.sqnr_db is None:
        return Cell(f"equal{floor}", _ABOVE_ALL) if row.passed else text("-")
    return Cell(f"{row.sqnr_db:.1f}{floor}", row.sqnr_db)
