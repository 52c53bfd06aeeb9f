"""Parts of the page about what was measured: speed, agreement, accuracy, INT8, cost, growth."""

from __future__ import annotations

from collections.abc import Sequence

from swin_deploy.measure.sensitivity.report import Mixed
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.measure.verify.report import BisectionReport
from swin_deploy.report import page_plots as plots
from swin_deploy.report.cost_tables import purposes_table
from swin_deploy.report.evaluation_tables import accuracy_tables
from swin_deploy.report.gather import ReportData
from swin_deploy.report.headline import agreement, best_timing, evaluated, tone_of
from swin_deploy.report.measured_tables import (
    fits_table,
    list_places,
    places_table,
    sensitivity_words,
    suggestion_words,
    timings_table,
)
from swin_deploy.report.run_tables import comparisons_table, decibels_cell
from swin_deploy.report.sections_run import Section
from swin_deploy.report.tables import (
    Cell,
    Columns,
    Table,
    make_table,
    measure,
    number,
    significant,
    tabulate,
    text,
    within,
)

MAX_FAILED = 20  # of one run; more say no more
MAX_PLACES = 40  # of one run; the least sensitive ones decide nothing
# Of a timing, what has no room on the page.
_MORE_TIMES = ("p95 (ms)", "mean (ms)", "std (ms)", "enqueue (ms)", "upload (ms)", "download (ms)")


def compare_section(data: ReportData) -> Section:
    """A row a source, where there are several."""
    if len(data.sources) < 2:
        return Section(name="compare", title="Side by side")
    several = len({source.network for source in data.sources}) > 1
    rows = []
    for source in data.sources:
        best, machine = best_timing(source), source.machine
        accuracy = evaluated(source, best)
        rows.append(
            (
                text(source.label),
                text(source.network if several else ""),
                text("" if best is None else best.verdict, tone_of(best)),
                text("") if (card := agreement(source)) is None else text(card.value, card.tone),
                text("" if machine is None else f"{machine.processor}, {machine.cores} cores"),
                text("" if best is None else best.name),
                number(None if best is None else best.batch, "d"),
                measure(None if best is None else best.p50_ms),
                measure(None if best is None else best.images_per_s),
                text("")
                if best is None
                else within(best.speedup, best.speedup_low, best.speedup_high, significant),
                number(None if accuracy is None else 100 * accuracy.top1.share),
            )
        )
    columns = ("run", "network", "verdict", "agreement", "machine", "engine", ">batch",
               ">p50 (ms)", ">images/s", ">speed-up (95 % interval)", ">top-1 (%)")  # fmt: skip
    table = make_table("The fastest engine that agrees, of every run and file", columns, rows)
    words: tuple[str, ...] = ()
    if len({s.machine.processor for s in data.sources if s.machine is not None}) > 1:
        words = (
            "The machines differ: compare speed-ups, each over the eager network of its own "
            "machine, rather than times.",
        )
    return Section(name="compare", title="Side by side", words=words, tables=(table,))


def speed_section(data: ReportData) -> Section:
    """Latency, throughput and speed-ups."""
    title = "Latency, throughput and speed-up"
    found = list(data.having(lambda source: source.bench))
    rows = data.rows(lambda source: source.bench, lambda bench: bench.measurements)
    if not rows:
        return Section(name="speed", title=title)
    timings = [
        (data.named(source, row.name), row) for source, bench in found for row in bench.measurements
    ]
    timings.sort(key=lambda row: row[1].batch)
    compared = [row for row in timings if row[1].role != "baseline"]
    figures = [plots.plot_speedups(compared)] if compared else []
    if len({row.batch for _, row in timings}) > 1:  # one batch size makes no curve
        figures.append(plots.plot_throughput(timings))
    figures.append(plots.plot_latency(timings))
    words = tuple(
        data.named(
            source, f"{bench.threads} threads of {bench.machine.cores} cores of "
            f"{bench.machine.processor}, {bench.rounds} turns of every runner."
        )
        for source, bench in found
    )  # fmt: skip
    table = timings_table("Times of a call, host to host", rows, _MORE_TIMES)
    return Section(name="speed", title=title, words=words, figures=tuple(figures), tables=(table,))


def scaling_section(data: ReportData) -> Section:
    """Growth with the image."""
    found = [pair for pair in data.having(lambda source: source.scaling) if pair[1].points]
    rows = [(data.label(source), fit) for source, scaling in found for fit in scaling.fits]
    return Section(
        name="scaling",
        title="Growth with the image",
        figures=(plots.plot_scaling([(s.label, scaling) for s, scaling in found]),)
        if found
        else (),
        tables=(fits_table(rows),) if rows else (),
    )


def accuracy_section(data: ReportData) -> Section:
    """Top-1 and top-5 with intervals, and every artifact beside the first."""
    found = list(data.having(lambda source: source.evaluate))
    words = (
        data.named(source, f"{report.images:,} images of {report.data}.")
        for source, report in found
    )
    reports = [(data.label(source), report) for source, report in found]
    tables = accuracy_tables("Accuracy on labelled photos", reports)
    return Section(name="accuracy", title="Accuracy", words=tuple(words), tables=tables)


def agreement_section(data: ReportData) -> Section:
    """What ``verify`` found wrong, and every candidate against the eager network."""
    rows = data.rows(lambda source: source.verify, lambda verified: verified.comparisons)
    table = comparisons_table("Against eager FP32", rows, ["reference"])
    nearest = [
        (data.named(source, name), row)
        for source, verified in data.having(lambda source: source.verify)
        for name, row in nearest_floor(verified.comparisons).items()
    ]
    return Section(
        name="agreement",
        title="Agreement with eager PyTorch",
        figures=(plots.plot_agreement(nearest),) if nearest else (),
        tables=(*_failed_checks(data), *((table,) if rows else ())),
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


def _failed_checks(data: ReportData) -> tuple[Table, ...]:
    """The comparisons of ``verify`` that failed, the worst first; no table where none did."""

    def margin_db(row: ComparisonRow) -> float:
        """Over its floor; what has no SQNR is not finite, or of another shape: the worst."""
        return float("-inf") if row.sqnr_db is None else row.sqnr_db - (row.floor_db or 0.0)

    rows = data.rows(
        lambda source: source.checks,
        lambda checks: sorted(checks.failed, key=margin_db)[:MAX_FAILED],
    )
    caption = "Comparisons of verify that failed"
    failed = [len(checks.failed) for _, checks in data.having(lambda source: source.checks)]
    left_out = sum(max(0, count - MAX_FAILED) for count in failed)
    if left_out:
        caption += f": the {MAX_FAILED} worst; {left_out:,} more are in checks.json"
    # The reason has the rest.
    without = ["SQNR / floor (dB)", "cosine"]
    return (comparisons_table(caption, rows, without),) if rows else ()


def depth_section(data: ReportData) -> Section:
    """Error along the depth."""

    def least(pair: BisectionReport) -> float | None:
        return min((t.sqnr_db for t in pair.rows if t.sqnr_db is not None), default=None)

    columns: Columns[BisectionReport] = (
        ("candidate", lambda pair: pair.candidate),
        ("verdict", _depth_verdict),
        ("reference", lambda pair: pair.reference),
        (">least SQNR (dB)", lambda pair: number(least(pair), ".1f")),
        (">floor (dB)", lambda pair: number(pair.floor_db, ".0f")),
    )
    found = [
        (source, pair)
        for source, checks in data.having(lambda source: source.checks)
        for pair in checks.bisections
        if pair.rows
    ]
    if not found:
        return Section(name="depth", title="Error along the depth")
    curves = [
        (data.named(source, f"{pair.candidate} against {pair.reference}"), pair)
        for source, pair in found
    ]
    rows = [(data.label(source), pair) for source, pair in found]
    return Section(
        name="depth",
        title="Error along the depth",
        figures=(plots.plot_depth(curves),),
        tables=(tabulate("Tensors inside", columns, rows),),
    )


def _depth_verdict(pair: BisectionReport) -> Cell:
    if pair.first is not None:
        return text(f"wrong from {pair.first.tensor}", "bad")
    return text("not judged") if pair.floor_db is None else text("ok", "good")


def sensitivity_section(data: ReportData) -> Section:
    """The most sensitive places, and the suggestion."""
    found = list(data.having(lambda source: source.sensitivity))
    mixed = [(source, one, one.mixed) for source, one in found if one.mixed is not None]
    caption = "One place in INT8, the rest in FP32; the most sensitive first"
    if any(len(measured.places) > MAX_PLACES for _, measured in found):
        caption += f": {MAX_PLACES} of a run; sensitivity.json has all"
    words = [data.named(source, f"{sensitivity_words(one)}.") for source, one in found]
    words += [data.named(source, _suggest(m, len(one.places))) for source, one, m in mixed]
    rows = data.rows(lambda source: source.sensitivity, lambda one: list_places(one, MAX_PLACES))
    return Section(
        name="sensitivity",
        title="Sensitivity to INT8",
        words=tuple(words),
        tables=(places_table(caption, rows),) if rows else (),
        commands=tuple(
            (data.label(source), f"swin-deploy export --int8-keep {','.join(found.keep)}")
            for source, _, found in mixed
            if found.quantised and found.keep
        ),
    )


def _suggest(mixed: Mixed, places: int) -> str:
    lost = "" if mixed.drop_points is None else f", {mixed.drop_points:+.2f} points of top-1 lost"
    worst = decibels_cell(mixed.sqnr_db, None, right=True).text
    return f"Suggestion for {suggestion_words(mixed, places)}; {worst} dB on the worst image{lost}."


def cost_section(data: ReportData) -> Section:
    """Kernels and bytes by purpose."""
    shown = [(data.named(s, engine.name), engine) for s in data.sources for engine in s.costs]
    if not shown:
        return Section(name="cost", title="Kernels and bytes")
    words = [
        f"{name}: {engine.fused_attentions} of {engine.attentions} attentions are one fused kernel "
        f"each; compiled by {engine.compiler}."
        for name, engine in shown
    ]
    if any(cost.moved_bytes is None for _, engine in shown for cost in engine.purposes):
        words.append("Bytes depend on the batch where it is dynamic, and are not shown there.")
    figures = tuple(
        f for f in (plots.plot_bytes(shown), plots.plot_kernels(shown)) if f is not None
    )
    return Section(
        name="cost",
        title="Kernels and bytes",
        words=tuple(words),
        figures=figures,
        tables=(purposes_table(data.rows(lambda source: source.costs, iter)),),
    )


SECTIONS = (
    *(compare_section, speed_section, agreement_section, accuracy_section, depth_section),
    *(sensitivity_section, cost_section, scaling_section),
)
