"""Latency, throughput, speed-ups, and growth with the image."""

from __future__ import annotations

from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.plots_speed import (
    Row,
    plot_latency,
    plot_scaling,
    plot_speedups,
    plot_throughput,
)
from swin_deploy.report.page.section import Section, having, label_cell, named
from swin_deploy.report.page.tables import (
    Cell,
    Tone,
    make_table,
    measure,
    number,
    significant,
    text,
    within,
)

VERDICTS: dict[str, Tone] = {"faster": "good", "slower": "bad"}


def speed_section(data: ReportData) -> Section:
    """Latency, throughput and speed-ups."""
    found = list(having(data, lambda source: source.bench))
    rows = [
        (
            label_cell(data, source),
            text(row.name),
            text("baseline")
            if row.role == "baseline"
            else text(row.verdict, VERDICTS.get(row.verdict, "")),
            number(row.batch, "d"),
            measure(row.p50_ms),
            Cell(f"{significant(row.p90_ms)} / {significant(row.p99_ms)}", row.p90_ms),
            measure(row.images_per_s),
            measure(row.gpu_ms),
            measure(row.joules_per_image),
            within(row.speedup, row.speedup_low, row.speedup_high, significant),
        )
        for source, bench in found
        for row in bench.measurements
    ]
    if not rows:
        return Section(name="speed", title="Latency, throughput and speed-up")
    columns = ("run", "runner", "verdict", ">batch", ">p50 (ms)", ">p90 / p99 (ms)",
               ">images/s", ">GPU (ms)", ">J/image", ">speed-up (95 % interval)")  # fmt: skip
    timings = [
        Row(named(data, source, row.name), row)
        for source, bench in found
        for row in bench.measurements
    ]
    timings.sort(key=lambda row: row.timing.batch)
    compared = [row for row in timings if row.timing.role != "baseline"]
    figures = [plot_speedups(compared)] if compared else []
    if len({row.timing.batch for row in timings}) > 1:  # one batch size makes no curve
        figures.append(plot_throughput(timings))
    figures.append(plot_latency(timings))
    words = tuple(
        named(
            data, source, f"{bench.threads} threads of {bench.machine.cores} cores of "
            f"{bench.machine.processor}, {bench.rounds} turns of every runner."
        )
        for source, bench in found
    )  # fmt: skip
    table = make_table("Times of a call, host to host", columns, rows)
    return Section(
        name="speed",
        title="Latency, throughput and speed-up",
        words=words,
        figures=tuple(figures),
        tables=(table,),
    )


def scaling_section(data: ReportData) -> Section:
    """Growth with the image."""
    found = [
        (source, scaling)
        for source, scaling in having(data, lambda source: source.scaling)
        if scaling.points
    ]
    rows = [
        (
            label_cell(data, source),
            text(fit.network),
            text(fit.cost.removesuffix("_bytes").removesuffix("_ms").replace("_", " ")),
            text(fit.axis),
            number(fit.exponent),
            text("" if fit.low is None or fit.high is None else f"{fit.low:.2f} to {fit.high:.2f}"),
        )
        for source, scaling in found
        for fit in scaling.fits
    ]
    columns = ("run", "network", "cost", "grows with", ">exponent", ">95 % interval")
    return Section(
        name="scaling",
        title="Growth with the image",
        figures=(plot_scaling([(s.label, scaling) for s, scaling in found]),) if found else (),
        tables=(make_table("Exponents: 1 is linear, 2 is quadratic", columns, rows),)
        if rows
        else (),
    )
