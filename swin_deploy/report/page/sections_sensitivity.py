"""What every place of the network costs in INT8, and which to leave out."""

from __future__ import annotations

from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.section import Section, having, label_cell, named
from swin_deploy.report.page.tables import Cell, make_table, number, text
from swin_deploy.sensitivity.report import Mixed, SensitivityReport

MAX_PLACES = 40  # of one run; the least sensitive ones decide nothing
_ABOVE_ALL = 1e9  # how equal results are sorted


def sensitivity_section(data: ReportData) -> Section:
    """The most sensitive places, and the suggestion."""
    found = list(having(data, lambda source: source.sensitivity))
    rows = [
        (
            label_cell(data, source),
            text(place.name),
            text(place.kind),
            _decibels(place.mean_sqnr_db),
            _decibels(place.sqnr_db),
            number(100 * place.agreement, ".1f"),
            number(place.drop_points, "+.2f"),
            text("FP16" if measured.mixed and place.name in measured.mixed.left else ""),
        )
        for source, measured in found
        for place in measured.places[:MAX_PLACES]
    ]
    columns = ("run", "place", "kind", ">SQNR (dB)", ">worst image (dB)", ">same class (%)",
               ">top-1 lost (points)", "suggestion")  # fmt: skip
    caption = "One place in INT8, the rest in FP32; the most sensitive first"
    if any(len(measured.places) > MAX_PLACES for _, measured in found):
        caption += f": {MAX_PLACES} of a run; sensitivity.json has all"
    words = [named(data, source, _describe(measured)) for source, measured in found]
    words += [
        named(data, source, _suggest(measured.mixed, len(measured.places)))
        for source, measured in found
        if measured.mixed is not None
    ]
    commands = tuple(
        (source.label if len(data.sources) > 1 else "", f"swin-deploy export --int8-keep {names}")
        for source, measured in found
        if measured.mixed is not None and measured.mixed.quantised
        if (names := ",".join(measured.mixed.keep))
    )
    return Section(
        name="sensitivity",
        title="Sensitivity to INT8",
        words=tuple(words),
        tables=(make_table(caption, columns, rows),) if rows else (),
        commands=commands,
    )


def _describe(measured: SensitivityReport) -> str:
    return (
        f"{len(measured.places)} places that {measured.recipe} quantises, {measured.method} of "
        f"{measured.calibration_images:,} images; measured on {measured.images:,} images."
    )


def _suggest(mixed: Mixed, places: int) -> str:
    goal = "the goal"
    if mixed.min_sqnr_db is not None:
        goal = f"{mixed.min_sqnr_db:g} dB on the worst image"
    elif mixed.max_drop_points is not None:
        goal = f"at most {mixed.max_drop_points:g} points of top-1 lost"
    lost = "" if mixed.drop_points is None else f", {mixed.drop_points:+.2f} points of top-1 lost"
    return (
        f"Suggestion for {goal}: {len(mixed.left)} of {places} places stay in FP16; "
        f"{_decibels(mixed.sqnr_db).text} dB on the worst image{lost}."
    )


def _decibels(value: float | None) -> Cell:
    return Cell("equal", _ABOVE_ALL) if value is None else number(value, ".1f")
