"""From networks and sizes to a report: every point measured in turns, and the exponents."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from swin_deploy.core.errors import ConfigError
from swin_deploy.core.files import require_writable, source_digest
from swin_deploy.core.reports import noting
from swin_deploy.engine.build import require_installed
from swin_deploy.engine.cost.graph_facts import GraphCost
from swin_deploy.engine.here import describe_machine
from swin_deploy.measure.bench.statistics import UNSTABLE
from swin_deploy.measure.journal import Journal
from swin_deploy.measure.scaling.measure import COMPILER, Graphs, measure_eager, measure_onnx
from swin_deploy.measure.scaling.report import (
    KIND,
    Axis,
    Compiled,
    Fit,
    FitRow,
    Point,
    PointRow,
    ScalingReport,
    ScalingRequest,
    Turn,
)

CONFIDENCE = 0.95


def fit_power_law(sizes: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit a power law, with Student's t interval of the slope over the points.

    The interval holds both what scatters and what is no power law: a curve that bends widens it.

    Args:
        sizes: Two or more different ones, positive.
        costs: One for each, positive.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or len(set(sizes)) < len(sizes):
        raise ConfigError(f"no slope through costs {list(costs)} of sizes {list(sizes)}")
    if not all(math.isfinite(v) and v > 0 for v in (*sizes, *costs)):
        raise ConfigError(f"costs {list(costs)} of sizes {list(sizes)} are not all above 0")
    order = np.argsort(sizes)
    x, y = (np.log(np.asarray(values, dtype=np.float64)[order]) for values in (sizes, costs))
    line = stats.linregress(x, y)
    low = high = None
    if freedom := len(x) - 2:
        error = float(line.stderr) if np.ptp(y) else 0.0  # scipy has NaN for a constant
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        low, high = float(line.slope) - reach, float(line.slope) + reach
    return Fit(
        points=len(x),
        exponent=float(line.slope),
        low=low,
        high=high,
        largest=float((y[-1] - y[-2]) / (x[-1] - x[-2])),
    )


REPORT = "scaling.json"
# What exponents are fitted for, where it was measured.
COSTS = ("flops", "activation_bytes", "compiled_bytes", "time_ms", "cpu_ms", "working_bytes")


def measure_scaling(
    request: ScalingRequest, progress: Callable[[str], None], note: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every point, fit the exponents, write the report.

    Rounds go over all points before the next one begins, so that noise hits all of them alike.

    Args:
        request: What is wanted.
        progress: Hears what takes long.
        note: Hears what the user has to know.

    Returns:
        The JSON object of ``scaling --json``; the file has every turn as well.

    Raises:
        EnvironmentMissingError: The compiler that was asked for is not installed.
        FileAccessError: The report cannot be written.
    """
    if request.compiled:
        require_installed(COMPILER)
    require_writable(request.out)
    threads = request.threads or len(os.sched_getaffinity(0))
    notes = list[str]()
    remember = noting(notes, note)
    identity = _identity(request, threads)
    journal = Journal(request.out / REPORT, identity, note, kind=KIND, reuse_finished=False)
    with tempfile.TemporaryDirectory(prefix=".graphs.", dir=request.out) as folder:
        rows = _measure(request, threads, Graphs(Path(folder), request.seed), journal, progress)
    for row in rows:
        if row.time_variation > UNSTABLE:
            remember(
                f"{row.name}: its rounds vary by {row.time_variation:.0%} (limit "
                f"{UNSTABLE:.0%}); close other programs, or raise --rounds"
            )
    if any(row.peak_bytes is None for row in rows):
        remember("peak memory is not known: this kernel does not let a process reset its mark")
    report = ScalingReport(
        runtime=request.runtime,
        threads=threads,
        rounds=request.rounds,
        seed=request.seed,
        machine=describe_machine(),
        points=rows,
        fits=(*_fit(rows, "area", "batch"), *_fit(rows, "batch", "area")),
        notes=tuple(notes),
    ).as_dict()
    journal.finish(report)
    return report


def _identity(request: ScalingRequest, threads: int) -> dict[str, Any]:
    asked = asdict(replace(request, out=Path(), threads=threads))
    del asked["out"]
    return asked | {"machine": asdict(describe_machine()), "source": source_digest()}


def _measure(
    request: ScalingRequest,
    threads: int,
    graphs: Graphs,
    journal: Journal,
    progress: Callable[[str], None],
) -> tuple[PointRow, ...]:
    points = request.points
    costs: dict[str, GraphCost] = {}
    compiled: dict[str, Compiled] = {}
    for done, point in enumerate(points, start=1):
        name = point.name
        progress(f"graph {done} of {len(points)}: {name}")
        costs[name] = journal.get(f"{name} graph", GraphCost, partial(graphs.describe, point))
        if request.compiled:
            progress(f"compiling {done} of {len(points)}: {name}")
            compile_it = partial(graphs.compile, point)
            compiled[name] = journal.get(f"{name} compiled", Compiled, compile_it)
    turns: dict[str, list[Turn]] = {point.name: [] for point in points}
    log = graphs.folder / "log"

    def measure(point: Point) -> Turn:
        if request.runtime == "eager":
            return measure_eager(point, request.seed, threads, log)
        return measure_onnx(point, graphs.path(point), threads, log)

    for number in range(1, request.rounds + 1):
        for point in points:
            progress(f"round {number} of {request.rounds}: {point.name}")
            name = f"{point.name} round {number}"
            turns[point.name].append(journal.get(name, Turn, partial(measure, point)))
    return tuple(
        _row(point, costs[point.name], compiled.get(point.name), turns[point.name])
        for point in points
    )


def _row(
    point: Point, cost: GraphCost, compiled: Compiled | None, turns: Sequence[Turn]
) -> PointRow:
    times = np.array([turn.time_ms for turn in turns])
    return PointRow(
        name=point.name,
        network=point.variant.name,
        image_size=point.size,
        area=point.area,
        batch=point.batch,
        **asdict(cost),
        **({} if compiled is None else asdict(compiled)),
        time_ms=float(np.median(times)),
        time_low_ms=float(times.min()),
        time_high_ms=float(times.max()),
        cpu_ms=float(np.median([turn.cpu_ms for turn in turns])),
        time_variation=float(times.std() / times.mean()),
        peak_bytes=_median(turn.peak_bytes for turn in turns),
        working_bytes=_median(turn.working_bytes for turn in turns),
    )


def _median(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(np.median(known)) if known else None


def _fit(rows: Iterable[PointRow], axis: Axis, other: Axis) -> list[FitRow]:
    """The exponents in ``axis`` of every network and value of ``other``."""

    def group(row: PointRow) -> tuple[str, int]:
        return row.network, getattr(row, other)

    fits = []
    for (network, value), members in groupby(sorted(rows, key=group), group):
        points = sorted(members, key=attrgetter(axis))
        sizes = [getattr(row, axis) for row in points]
        for cost in COSTS if len(points) > 1 else ():
            costs = [figure for row in points if (figure := getattr(row, cost))]
            if len(costs) == len(points):  # not measured, or no memory beyond what loading left
                fit = asdict(fit_power_law(sizes, costs))
                fits.append(FitRow(network=network, axis=axis, cost=cost, **{other: value}, **fit))
    return fits
