"""What was measured: times, accuracy, INT8 place by place, and what fine-tuning gave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.bench.report import BenchReport
from swin_deploy.bench.statistics import Measurement
from swin_deploy.evaluate.report import Effort, Evaluated, EvaluateReport, Pair, Right
from swin_deploy.records import decode
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
from swin_deploy.sensitivity.report import Accuracy, Costs, Figures, Mixed, Place, SensitivityReport

if TYPE_CHECKING:
    from swin_deploy.qat.run import QatResult

VERDICTS: dict[str, Tone] = {"faster": "good", "slower": "bad"}
_CONFUSED = 3  # pairs of classes that have room in a line
_SHOWN = 5  # images that flipped


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
    report = decode(BenchReport, content, "report", newer=True)
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


def _share(found: Right | None) -> Cell:
    if found is None:
        return text("")
    low, high = found.interval
    return within(100 * found.share, 100 * low, 100 * high, "{:.2f}".format)


_EVALUATED: Columns[Evaluated] = (
    ("artifact", lambda row: row.name),
    (">top-1 (%, 95 % interval)", lambda row: _share(row.top1)),
    (">top-5 (%, 95 % interval)", lambda row: _share(row.top5)),
    (">right", lambda row: number(row.top1.right, ",d")),
)
_PAIRS: Columns[Pair] = (
    ("artifact", lambda pair: pair.b),
    ("beside", lambda pair: pair.a),
    (
        ">top-1 lost (points, 95 % interval)",
        lambda pair: within(pair.drop_points, *pair.interval_points, "{:+.2f}".format),
    ),
    (">worse", lambda pair: number(pair.only_a_right, ",d")),
    (">better", lambda pair: number(pair.only_b_right, ",d")),
    (">named differently", lambda pair: number(pair.disagreements, ",d")),
    (">McNemar p", lambda pair: number(pair.p_value, ".2g")),
)


def accuracy_tables(
    caption: str, reports: Iterable[tuple[str, EvaluateReport]]
) -> tuple[Table, ...]:
    """A row per artifact, and one for each of the others beside the first."""
    found = list(reports)
    single = [(label, row) for label, report in found for row in report.artifacts]
    pairs = [(label, pair) for label, report in found for pair in report.pairs]
    tables = [tabulate(caption, _EVALUATED, single)] if single else []
    tables += [tabulate("Image by image", _PAIRS, pairs)] if pairs else []
    return tuple(tables)


def evaluation_summary(content: dict[str, Any]) -> Iterator[Part]:
    """Accuracy, what flipped, and who did the work."""
    report = decode(EvaluateReport, content, "report", newer=True)
    for table in accuracy_tables(f"{report.images} images of {report.data}", alone([report])):
        yield table
        yield ""
    names = report.class_names
    for pair in report.pairs:
        if pair.confusion:
            most = "; ".join(
                f"{class_text(names, row.a)} as {class_text(names, row.b)} {row.images}"
                for row in pair.confusion[:_CONFUSED]
            )
            yield f"{pair.b} names most often another class: {most}"
        for flip in pair.flips[:_SHOWN]:
            label, a, b = (class_text(names, one) for one in (flip.label, flip.a, flip.b))
            yield f"  {flip.change}: {flip.image} is {label}, was named {a} and is named {b}"
        if len(pair.flips) > _SHOWN:
            yield f"  and {len(pair.flips) - _SHOWN} more, in the report"
    work = report.work
    rate = f", {work.images_per_s:.0f} images/s" if work.images_per_s else ""
    yield f"{work.images} images by {_workers(work)} in {work.seconds:.1f} s{rate}"
    yield f"report: {report.report}"


def class_text(names: tuple[str, ...] | list[str], index: int) -> str:
    """The name of a class, or its number where names are not known."""
    return "none" if index < 0 else names[index] if names else str(index)


def _workers(work: Effort) -> str:
    if work.by == "one process":
        return work.by
    return f"{work.workers} {'workers on Ray' if work.by == 'ray' else 'processes'}"


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
    report = decode(SensitivityReport, content, "report", newer=True)
    yield f"{report.network}: {sensitivity_words(report)}"
    yield ""
    yield places_table(
        "one place in INT8, the rest in FP32; the most sensitive first",
        alone(list_places(report)),
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
    low, high = row.interval or (0.0, 1.0)
    return f"{row.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"


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
