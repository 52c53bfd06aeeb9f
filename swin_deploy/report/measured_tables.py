"""What was measured: times, INT8 place by place, growth with the image, what fine-tuning gave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.core.records import decode
from swin_deploy.measure.bench.report import BenchReport
from swin_deploy.measure.bench.statistics import Measurement
from swin_deploy.measure.scaling.report import FitRow, PointRow, ScalingReport
from swin_deploy.measure.sensitivity.report import (
    Accuracy,
    Costs,
    Figures,
    Mixed,
    Place,
    SensitivityReport,
)
from swin_deploy.report.cost_tables import bytes_cell
from swin_deploy.report.run_tables import decibels_cell, fold_outputs
from swin_deploy.report.tables import (
    Cell,
    Columns,
    Part,
    Table,
    Tone,
    alone,
    make_table,
    measure,
    number,
    significant,
    tabulate,
    text,
    within,
)

if TYPE_CHECKING:
    from swin_deploy.pipeline.qat.session import QatResult


VERDICTS: dict[str, Tone] = {"faster": "good", "slower": "bad"}
_COSTS = {
    "flops": "FLOPs",
    "activation_bytes": "activations, node by node",
    "compiled_bytes": "activations, compiled",
    "time_ms": "time",
    "cpu_ms": "CPU time",
    "working_bytes": "working memory",
}


def _speed_verdict(row: Measurement) -> Cell:
    baseline = row.role == "baseline"
    return text("baseline") if baseline else text(row.verdict, VERDICTS.get(row.verdict, ""))


def _tail(row: Measurement) -> Cell:
    return Cell(f"{significant(row.p90_ms)} / {significant(row.p99_ms)}", row.p90_ms)


_TIMED: Columns[Measurement] = (
    ("runner", lambda row: row.name),
    ("verdict", _speed_verdict),
    (">batch", lambda row: number(row.batch, "d")),
    (">p50 (ms)", lambda row: measure(row.p50_ms)),
    (">p90 / p99 (ms)", _tail),
    (">p95 (ms)", lambda row: measure(row.p95_ms)),
    (">mean (ms)", lambda row: measure(row.mean_ms)),
    (">std (ms)", lambda row: measure(row.std_ms)),
    (">images/s", lambda row: measure(row.images_per_s)),
    (">GPU (ms)", lambda row: measure(row.gpu_ms)),
    (">enqueue (ms)", lambda row: measure(row.enqueue_ms)),
    (">upload (ms)", lambda row: measure(row.upload_ms)),
    (">download (ms)", lambda row: measure(row.download_ms)),
    (">J/image", lambda row: measure(row.joules_per_image)),
    (
        ">speed-up (95 % interval)",
        lambda row: within(row.speedup, row.speedup_low, row.speedup_high, significant),
    ),
)


def timings_table(
    caption: str, rows: Iterable[tuple[str, Measurement]], without: Collection[str] = ()
) -> Table:
    """A row per runner and batch."""
    return tabulate(caption, _TIMED, rows, without)


def bench_summary(content: dict[str, Any]) -> Iterator[Part]:
    """Times, then what was compared, warnings, and a verdict per engine."""
    report = decode(BenchReport, content, "report", own=True)
    machine = report.machine
    yield (
        f"{report.network} on {machine.processor}, {report.threads} threads of {machine.cores} "
        f"cores; torch {machine.packages['torch']}, onnxruntime {machine.packages['onnxruntime']}"
    )
    yield timings_table("", alone(report.measurements), ["verdict"])
    for check, outputs in fold_outputs(report.checks):
        distance = "equal" if check.sqnr_db is None else f"SQNR {check.sqnr_db:.1f} dB"
        if check.floor_db is None:  # INT8 on noise: it was judged when it was exported
            yield f"{check.candidate} gives numbers on {check.inputs}: {distance}, not judged"
            continue
        worst = f", the worst of {outputs} outputs" if outputs > 1 else ""
        yield (
            f"{check.candidate} agrees with eager on {check.inputs}: {distance}, "
            f"floor {check.floor_db:.0f} dB{worst}"
        )
    for name, reason in report.not_run.items():
        yield f"{name} was not measured: {reason}"
    yield from (f"warning: {warning}" for warning in report.warnings)
    baselines = {row.batch: row for row in reversed(report.measurements)}
    for row in report.measurements:
        if row.role == "candidate":
            words = _compared(row, baselines[row.batch].name)
            yield text(f"batch {row.batch}: {row.name} {words}", VERDICTS.get(row.verdict, ""))


def _compared(row: Measurement, baseline: str) -> str:
    interval = f"95 % interval {row.speedup_low:.2f} to {row.speedup_high:.2f}"
    if row.verdict == "faster":
        return f"is {row.speedup:.2f} times as fast as {baseline} ({interval})"
    if row.verdict == "slower":
        return f"is slower than {baseline}: {row.speedup:.2f} times as fast ({interval})"
    return f"is not reliably faster than {baseline} ({interval})"


def list_places(report: SensitivityReport, most: int | None = None) -> list[tuple[Figures, str]]:
    """At most so many places, and all of them together; what stays in FP16 is marked."""
    left = () if report.mixed is None else report.mixed.left
    places = [(place, "FP16" if place.name in left else "") for place in report.places[:most]]
    return [*places, (report.all, "")]


def places_table(caption: str, rows: Iterable[tuple[str, tuple[Figures, str]]]) -> Table:
    """A row a place in INT8."""
    columns: Columns[tuple[Figures, str]] = (
        ("place", lambda row: row[0].name if isinstance(row[0], Place) else "all of them"),
        ("kind", lambda row: row[0].kind if isinstance(row[0], Place) else ""),
        (">SQNR (dB)", lambda row: decibels_cell(row[0].mean_sqnr_db, None, right=True)),
        (">worst image (dB)", lambda row: decibels_cell(row[0].sqnr_db, None, right=True)),
        (">same class (%)", lambda row: number(100 * row[0].agreement, ".1f")),
        (">top-1 (%)", lambda row: number(None if (a := row[0].accuracy) is None else 100 * a)),
        (">top-1 lost (points)", lambda row: number(row[0].drop_points, "+.2f")),
        ("suggestion", lambda row: row[1]),
    )
    return tabulate(caption, columns, rows)


def sensitivity_words(report: SensitivityReport) -> str:
    """What was measured."""
    return (
        f"{len(report.places)} places that {report.recipe} quantises, {report.method} of "
        f"{report.calibration_images:,} images; measured on {report.images:,} images against FP32 "
        "on ONNX Runtime"
    )


def suggestion_words(mixed: Mixed, places: int) -> str:
    """The goal, and what it takes."""
    goal = "the goal"
    if mixed.min_sqnr_db is not None:
        goal = f"{mixed.min_sqnr_db:g} dB on the worst image"
    elif mixed.max_drop_points is not None:
        goal = f"at most {mixed.max_drop_points:g} points of top-1 lost"
    return f"{goal}: {len(mixed.left)} of {places} places stay in FP16"


def sensitivity_summary(content: dict[str, Any], path: Path) -> Iterator[Part]:
    """A row per place, the most sensitive first, and what the search found."""
    report = decode(SensitivityReport, content, "report", own=True)
    yield f"{report.network}: {sensitivity_words(report)}"
    yield ""
    yield places_table(
        "one place in INT8, the rest in FP32; the most sensitive first", alone(list_places(report))
    )
    if report.fp32.accuracy is not None:
        yield f"FP32: top-1 {_accuracy(report.fp32)}"
        yield f"all places in INT8: top-1 {_accuracy(report.all)}"
    if report.mixed is not None:
        yield ""
        yield from _mixed(report.mixed, len(report.places))
    yield ""
    yield f"report: {path}"


def _mixed(mixed: Mixed, places: int) -> Iterator[Part]:
    tried = f" ({mixed.placements_tried} placements tried; fewer may do)" if mixed.left else ""
    yield suggestion_words(mixed, places) + tried
    for name in mixed.left:
        yield f"  {name}" + ("" if name in mixed.keep else " (with its pair)")
    mean, worst = (decibels_cell(v, None, True).text for v in (mixed.mean_sqnr_db, mixed.sqnr_db))
    result = f"SQNR {mean} dB, worst image {worst} dB"
    if mixed.accuracy is not None:
        result = f"top-1 {_accuracy(mixed)}, {mixed.drop_points:+.2f} points lost; {result}"
    yield result
    if mixed.cost is not None:
        yield _compiled(mixed.cost)
    if mixed.keep and mixed.quantised:
        yield f"swin-deploy export --int8-keep {','.join(mixed.keep)}"


def _compiled(costs: Costs) -> Table:
    engines = (("all places in INT8", costs.all), ("with those in FP16", costs.mixed))
    return make_table(
        f"compiled by {costs.all.compiler}",
        ("engine", ">kernels", ">fused attentions", ">activations (MB)", ">weights (MB)"),
        [
            (name, str(cost.kernels), str(cost.fused_attentions),
             bytes_cell(cost.activation_bytes), bytes_cell(cost.weight_bytes))
            for name, cost in engines if cost is not None
        ],
    )  # fmt: skip


def _accuracy(row: Accuracy | Figures) -> str:
    if row.accuracy is None or row.interval is None:
        return "not known"
    low, high = row.interval
    return f"{row.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"


def _grows_with(fit: FitRow) -> str:
    fixed = f"batch {fit.batch}" if fit.axis == "area" else f"{fit.area} pixels"
    return f"{fit.axis}, {fixed}"


_FITS: Columns[FitRow] = (
    ("network", lambda fit: fit.network),
    ("cost", lambda fit: _COSTS.get(fit.cost, fit.cost)),
    ("grows with", _grows_with),
    (">points", lambda fit: number(fit.points, "d")),
    (">exponent", lambda fit: number(fit.exponent)),
    (">95 % interval", lambda fit: exponent_interval(fit) or "-"),
    (">of the two largest", lambda fit: number(fit.largest)),
)


def fits_table(rows: Iterable[tuple[str, FitRow]]) -> Table:
    """A row per network and cost."""
    return tabulate("Exponents: 1 is linear, 2 is quadratic", _FITS, rows)


def exponent_interval(fit: FitRow) -> str:
    """Two points have none: ""."""
    return "" if fit.low is None or fit.high is None else f"{fit.low:.2f} to {fit.high:.2f}"


def _memory(value: int | None) -> Cell:
    return text("not known") if value is None else bytes_cell(value)


_POINTS: Columns[PointRow] = (
    ("network", lambda row: row.network),
    ("image", lambda row: "x".join(map(str, row.image_size))),
    (">batch", lambda row: number(row.batch, "d")),
    (">GFLOPs", lambda row: number(row.flops / 1e9)),
    (">activations (MB)", lambda row: bytes_cell(row.activation_bytes)),
    (">compiled (MB)", lambda row: "" if (b := row.compiled_bytes) is None else bytes_cell(b)),
    (">ms", lambda row: measure(row.time_ms)),
    (">range", lambda row: f"{significant(row.time_low_ms)}-{significant(row.time_high_ms)}"),
    (">CPU ms", lambda row: measure(row.cpu_ms)),
    (">working (MB)", lambda row: _memory(row.working_bytes)),
    (">with network (MB)", lambda row: _memory(row.peak_bytes)),
)


def threads_text(report: ScalingReport) -> str:
    """How many there were."""
    return "1 thread" if report.threads == 1 else f"{report.threads} threads"


def scaling_summary(content: dict[str, Any], path: Path) -> Iterator[Part]:
    """What was measured at every point, and the exponents."""
    report = decode(ScalingReport, content, "report", own=True)
    yield (
        f"FLOPs and bytes of the exported FP32 graph; time and memory of {report.runtime}, "
        f"{threads_text(report)}, {report.rounds} rounds, on {report.machine.cores} cores of "
        f"{report.machine.processor}"
    )
    yield ""
    yield tabulate("", _POINTS, alone(report.points))
    yield ""
    for axis in ("area", "batch"):
        if fits := [fit for fit in report.fits if fit.axis == axis]:
            yield fits_table(alone(fits))
            yield ""
    yield f"report: {path}"


def qat_summary(result: QatResult) -> Iterator[Part]:
    """Accuracies with their intervals, what was quantised, and how far graph and training agree."""
    report = result.report
    quantised, agreement = report["quantised"], report["agreement"]
    yield (
        f"quantised: {len(quantised['gemms'])} products and {len(quantised['attentions'])} "
        f"attentions, for {report['settings']['kind']}"
    )
    yield f"loss, by epoch: {', '.join(f'{loss:.4f}' for loss in report['losses'])}"
    yield f"INT8 graph and training agree to {agreement['place_db']:.1f} dB or more in every place"
    if report["accuracy"] is not None:
        yield make_table(
            "",
            ("graph", ">top-1 (%, 95 % interval)", ">right"),
            [
                (f"{precision} {when}", *accuracy_cells(found))
                for when, graphs in report["accuracy"].items()
                for precision, found in graphs.items()
            ],
        )
    done = "nothing had to be done" if result.current else f"done in {report['seconds']:.1f} s"
    yield f"{done}: {result.path}"


def accuracy_cells(found: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """Share with its interval, and counts, as ``measure_accuracy`` gives them."""
    low, high = found["interval"]
    share = within(100 * found["top1"], 100 * low, 100 * high, "{:.1f}".format)
    return share, text(f"{found['right']} of {found['images']}")
