"""What ``verify`` found: comparisons that failed, and error along the depth."""

from __future__ import annotations

from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.plots_numbers import plot_depth
from swin_deploy.report.page.section import Section, having, label_cell, named
from swin_deploy.report.page.tables import Cell, Table, make_table, number, text
from swin_deploy.verify.comparison import ComparisonRow
from swin_deploy.verify.report import BisectionReport

MAX_FAILED = 20  # of one run; more say no more


def failed_checks(data: ReportData) -> tuple[Table, ...]:
    """The comparisons of ``verify`` that failed, the worst first; no table where none did."""
    found = [
        (source, sorted(checks.failed, key=_margin_db))
        for source, checks in having(data, lambda source: source.checks)
    ]
    rows = [
        (
            label_cell(data, source),
            text(row.candidate),
            text(f"FAILED: {row.reason}", "bad"),
            text(row.reference),
            text(row.inputs),
            text(row.output),
            number(row.max_abs_error, ".1e"),
            number(None if row.top1_agreement is None else 100 * row.top1_agreement, ".0f"),
        )
        for source, failed in found
        for row in failed[:MAX_FAILED]
    ]
    caption = "Comparisons of verify that failed"
    left_out = sum(max(0, len(failed) - MAX_FAILED) for _, failed in found)
    if left_out:
        caption += f": the {MAX_FAILED} worst; {left_out:,} more are in checks.json"
    columns = ("run", "candidate", "verdict", "reference", "inputs", "output", ">max error",
               ">same class (%)")  # fmt: skip
    return (make_table(caption, columns, rows),) if rows else ()


def _margin_db(row: ComparisonRow) -> float:
    """Over its floor; what has no SQNR is not finite, or of another shape: the worst."""
    if row.sqnr_db is None:
        return float("-inf")
    return row.sqnr_db - (row.floor_db or 0.0)


def depth_section(data: ReportData) -> Section:
    """Error along the depth."""
    pairs = [
        (named(data, source, f"{pair.candidate} against {pair.reference}"), source, pair)
        for source, checks in having(data, lambda source: source.checks)
        for pair in checks.bisections
        if pair.rows
    ]
    rows = [
        (
            label_cell(data, source),
            text(pair.candidate),
            _depth_verdict(pair),
            text(pair.reference),
            number(
                min((t.sqnr_db for t in pair.rows if t.sqnr_db is not None), default=None), ".1f"
            ),
            number(pair.floor_db, ".0f"),
        )
        for _, source, pair in pairs
    ]
    columns = ("run", "candidate", "verdict", "reference", ">least SQNR (dB)", ">floor (dB)")
    return Section(
        name="depth",
        title="Error along the depth",
        figures=(plot_depth([(name, pair) for name, _, pair in pairs]),) if pairs else (),
        tables=(make_table("Tensors inside", columns, rows),) if rows else (),
    )


def _depth_verdict(pair: BisectionReport) -> Cell:
    if pair.first is not None:
        return text(f"wrong from {pair.first.tensor}", "bad")
    return text("not judged") if pair.floor_db is None else text("ok", "good")
