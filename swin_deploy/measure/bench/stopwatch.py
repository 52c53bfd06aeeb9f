"""Latency and throughput of runners, measured in turns so that noise hits all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError
from swin_deploy.data.images import InputSet
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.tensorrt import TensorRtRunner
from swin_deploy.measure.bench.power import PowerMeter
from swin_deploy.measure.bench.statistics import (
    Measurement,
    Role,
    Turns,
    stability_warning,
    summarise,
)
from swin_deploy.measure.verify import Comparison, Verification, compare_outputs
from swin_deploy.measure.verify.comparison import NO_PHOTOS
from swin_deploy.network.interface import AS_EXPORTED, Interface, Precision
from swin_deploy.network.judge import FloatArray

MIN_ROUND_S = 0.2  # a round has as many calls as fit; short ones would time the clock

CLOCKED = 50  # calls of an engine by the clock of the GPU

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSpec:
    """How to measure.

    Attributes:
        batches: Batch sizes, each measured by itself.
        rounds: Turns per runner and batch.
        warmup: Calls before the first turn, not counted.
        clock: Gives seconds.
    """

    batches: tuple[int, ...] = (1,)
    rounds: int = 20
    warmup: int = 3
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"batches {list(self.batches)} must be at least 1")
        if self.rounds < 2:
            raise ConfigError(f"rounds = {self.rounds} gives no spread", "at least 2")


@dataclass(frozen=True, slots=True)
class Entrant:
    """A runner to measure.

    Attributes:
        runner: To be opened.
        precision: Whose floor its outputs have to reach.
        role: See ``Measurement``.
        on_gpu: Whether it runs on a GPU.
    """

    runner: Runner
    precision: Precision
    role: Role = "candidate"
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All measurements; the first of each batch is the baseline of the speed-ups."""

    measurements: tuple[Measurement, ...]
    checks: tuple[Comparison, ...]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the figures has to know."""
        bounds = [text for measurement in self.measurements for text in measurement.warnings]
        return [*stability_warning(self.measurements), *bounds]


def run_bench(
    baseline: Entrant,
    others: Sequence[Entrant],
    make_images: Callable[[int], InputSet],
    spec: BenchSpec,
    progress: Callable[[str], None],
    check: bool = True,
    floors_db: Mapping[str, float] | None = None,
    interface: Interface = AS_EXPORTED,
    power: PowerMeter | None = None,
) -> BenchResult:
    """Measure runners beside a baseline; each has to give the baseline's outputs first.

    Args:
        baseline: What speed-ups are over; measured like the others.
        others: Other baselines and the candidates.
        make_images: Number of images -> normalised images of the right size.
        spec: Batches, rounds, warm-up.
        progress: Told what is being measured.
        check: Compare outputs first; False only where the candidates' weights are unknown.
        floors_db: Output -> what FP32 has to reach, where it is not the usual floor.
        interface: As ``compare_outputs`` takes it.
        power: Measures energy, where the machine can.

    Raises:
        ConfigError: A runner does not take one of the batch sizes.
        VerificationError: One computes something else than the baseline.
    """
    entrants = [baseline, *others]
    measurements: list[Measurement] = []
    checks: list[Comparison] = []
    with ExitStack() as stack:
        for entrant in entrants:
            progress(f"opening {entrant.runner.name}")
            stack.enter_context(entrant.runner)
            _require_batches(entrant.runner, spec.batches)
        for batch in spec.batches:
            images = make_images(batch)
            if check:
                progress(f"comparing outputs at batch {batch}")
                checks += _compare(entrants, images, floors_db or {}, interface)
                Verification(tuple(checks), {}).require()
            measurements += _measure(entrants, images.images, spec, progress, power)
    return BenchResult(tuple(measurements), tuple(checks))


def _require_batches(runner: Runner, batches: Sequence[int]) -> None:
    for batch in batches:
        if not runner.batch.low <= batch <= runner.batch.high:
            raise ConfigError(
                f"{runner.name} takes a batch of {runner.batch}, not {batch}",
                f"--batches {runner.batch.high}, or export with --batch 1:{batch}",
            )


def _compare(
    entrants: Sequence[Entrant],
    images: InputSet,
    floors_db: Mapping[str, float],
    interface: Interface,
) -> list[Comparison]:
    expected = entrants[0].runner.run(images.images)
    checks: list[Comparison] = []
    for entrant in entrants[1:]:
        runner = entrant.runner
        for row in compare_outputs(
            runner.name,
            images.name,
            expected,
            runner.run(runner.prepare(images.images)),
            entrant.precision,
            interface=interface,
        ):
            if row.precision == "int8":  # it was judged when it was exported
                checks.append(row.not_judged(NO_PHOTOS))
            else:
                checks.append(row.held_to(floors_db) if row.precision == "fp32" else row)
    return checks


def _measure(
    entrants: Sequence[Entrant],
    images: FloatArray,
    spec: BenchSpec,
    progress: Callable[[str], None],
    power: PowerMeter | None,
) -> list[Measurement]:
    runners = [entrant.runner for entrant in entrants]
    if power is None:
        times, _ = time_in_turns(runners, images, spec, progress)
        spent: list[float | None] = [None] * len(runners)
    else:
        with power:
            times, spans = time_in_turns(runners, images, spec, progress)
        calls = [sum(map(len, turns)) for turns in times]
        spent = [
            power.joules(own) / (count * len(images))
            for own, count in zip(spans, calls, strict=True)
        ]
    found = [
        summarise(e.runner.name, e.role, len(images), turns, times[0], e.on_gpu, joules)
        for e, turns, joules in zip(entrants, times, spent, strict=True)
    ]
    return [
        with_gpu_clock(measurement, runner, images)
        if isinstance(runner, TensorRtRunner)
        else measurement
        for measurement, runner in zip(found, runners, strict=True)
    ]


def with_gpu_clock(
    measurement: Measurement, runner: TensorRtRunner, images: FloatArray
) -> Measurement:
    """The same with the parts of a call: medians of ``CLOCKED`` calls after the turns."""
    given = runner.prepare(images)
    calls = [runner.timing(given) for _ in range(CLOCKED)]

    def median(key: str) -> float:
        return float(np.median([getattr(call, key) for call in calls]))

    return replace(
        measurement,
        gpu_ms=median("compute_ms"),
        enqueue_ms=median("enqueue_ms"),
        upload_ms=median("upload_ms"),
        download_ms=median("download_ms"),
        cuda_graph=all(call.cuda_graph for call in calls),
    )


def time_in_turns(
    runners: Sequence[Runner],
    images: FloatArray,
    spec: BenchSpec,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[list[Turns], list[list[tuple[float, float]]]]:
    """Seconds per call, as [runner][turn][call], and when each turn began and ended.

    Within a turn the order of the runners is random: whoever always follows the same one would
    always find the caches as that one left them.
    """
    calls = []
    inputs = [runner.prepare(images) for runner in runners]  # not a part of what is timed
    for runner, own in zip(runners, inputs, strict=True):
        slowest = max(_time_calls(runner, own, max(1, spec.warmup), spec.clock))
        calls.append(max(1, round(MIN_ROUND_S / slowest)))
    times: list[Turns] = [[] for _ in runners]
    spans: list[list[tuple[float, float]]] = [[] for _ in runners]
    order = random.Random(0)  # noqa: S311 - turns, not secrets
    for turn in range(spec.rounds):
        progress(f"batch {len(images)}: turn {turn + 1} of {spec.rounds}")
        for index in order.sample(range(len(runners)), len(runners)):
            start = spec.clock()
            times[index].append(
                _time_calls(runners[index], inputs[index], calls[index], spec.clock)
            )
            spans[index].append((start, spec.clock()))
    return times, spans


def _time_calls(runner: Runner, images: NDArray[Any], calls: int, clock: Clock) -> list[float]:
    seconds = []
    for _ in range(calls):
        start = clock()
        runner.run(images)
        seconds.append(clock() - start)
    return seconds
