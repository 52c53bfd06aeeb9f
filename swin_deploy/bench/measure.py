"""Latency and throughput of runners, measured in turns so that noise hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import ConfigError
from swin_deploy.interface import AS_EXPORTED, Interface
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.verify import Comparison, Verification, compare_outputs, without_floor

SCHEMA_VERSION = 2  # 2: a check per output
MIN_ROUND_S = 0.2  # a round has as many calls as fit; short ones would time the clock
UNSTABLE = 0.10  # coefficient of variation of the rounds' medians; GPU tools warn at 0.025
UNSTABLE_TAIL = 1.5  # p90 over p50: calls that waited for a core


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSpec:
    """How to measure.

    Attributes:
        batches: Batch sizes, each measured by itself.
        rounds: Turns per runner and batch.
        warmup: Calls before the first turn, not counted.
    """

    batches: tuple[int, ...] = (1,)
    rounds: int = 10
    warmup: int = 3

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"batches {list(self.batches)} must be at least 1")
        if self.rounds < 2:
            raise ConfigError(f"rounds = {self.rounds} gives no spread", "at least 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One runner at one batch size.

    Attributes:
        name: The runner.
        batch: Images per call.
        calls: Calls that were timed.
        p50_ms: Median latency of a call, host to host; p90 and p99 likewise.
        images_per_s: Over all timed calls.
        speedup: Baseline's median latency over this one's, turn by turn; the median of the turns.
        speedup_low: The smallest of the turns.
        speedup_high: The largest of the turns.
        variation: Standard deviation of the turns' medians over their mean.
    """

    name: str
    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    speedup: float
    speedup_low: float
    speedup_high: float
    variation: float

    @property
    def unstable(self) -> bool:
        """Whether the machine was too noisy for the figures to mean much."""
        return self.variation > UNSTABLE or self.p90_ms > UNSTABLE_TAIL * self.p50_ms


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All measurements; the first of each batch is the baseline."""

    measurements: tuple[Measurement, ...]
    checks: tuple[Comparison, ...]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the figures has to know."""
        return [
            f"{m.name} at batch {m.batch} is unstable: its rounds vary by {m.variation:.0%} (limit "
            f"{UNSTABLE:.0%}), p90 is {m.p90_ms / m.p50_ms:.1f} times p50 (limit {UNSTABLE_TAIL}); "
            "close other programs, or raise --rounds"
            for m in self.measurements
            if m.unstable
        ]

    def as_dict(self) -> dict[str, Any]:
        """The measurements and checks as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "measurements": [asdict(m) | {"unstable": m.unstable} for m in self.measurements],
            "checks": Verification(self.checks, {}).as_dict()["comparisons"],
            "warnings": self.warnings,
        }


def run_bench(
    baseline: Runner,
    candidates: Sequence[tuple[Runner, Precision]],
    make_images: Callable[[int], InputSet],
    spec: BenchSpec,
    progress: Callable[[str], None],
    check: bool = True,
    floors_db: Mapping[str, float] | None = None,
    interface: Interface = AS_EXPORTED,
) -> BenchResult:
    """Measure candidates beside a baseline; each has to give the baseline's outputs first.

    Args:
        baseline: What speed-ups are over; measured like the others.
        candidates: With the precision whose floor their outputs have to reach.
        make_images: Number of images -> normalised images of the right size.
        spec: Batches, rounds, warm-up.
        progress: Told what is being measured.
        check: Compare outputs first; False only where the candidates' weights are unknown.
        floors_db: As ``compare_outputs`` takes them.
        interface: As ``compare_outputs`` takes it.

    Raises:
        ConfigError: A candidate does not take one of the batch sizes.
        VerificationError: A candidate computes something else than the baseline.
    """
    measurements: list[Measurement] = []
    checks: list[Comparison] = []
    with ExitStack() as stack:
        runners = [
            stack.enter_context(runner) for runner in (baseline, *(r for r, _ in candidates))
        ]
        for runner in runners:
            _require_batches(runner, spec.batches)
        for batch in spec.batches:
            images = make_images(batch)
            expected = baseline.run(images.images)
            for runner, precision in candidates if check else ():
                outputs = runner.run(runner.prepare(images.images))
                rows = compare_outputs(
                    runner.name,
                    images.name,
                    expected,
                    outputs,
                    precision,
                    floors_db=floors_db,
                    interface=interface,
                )
                checks += map(without_floor, rows) if precision == "int8" else rows
            if check:
                Verification(tuple(checks), {}).require()
            progress(f"batch {batch}")
            times = _time_in_turns(runners, images.images, spec)
            medians = [np.array([np.median(turn) for turn in turns]) for turns in times]
            measurements += [
                _summarise(runner.name, batch, turns, medians[0] / own)
                for runner, turns, own in zip(runners, times, medians, strict=True)
            ]
    return BenchResult(tuple(measurements), tuple(checks))


def _require_batches(runner: Runner, batches: Sequence[int]) -> None:
    for batch in batches:
        if not runner.batch.low <= batch <= runner.batch.high:
            raise ConfigError(
                f"{runner.name} takes a batch of {runner.batch}, not {batch}",
                f"--batches {runner.batch.high}, or export with --batch 1:{batch}",
            )


def _time_in_turns(
    runners: Sequence[Runner], images: FloatArray, spec: BenchSpec
) -> list[list[list[float]]]:
    """Seconds per call, as [runner][turn][call]."""
    calls = []
    inputs = [runner.prepare(images) for runner in runners]  # not a part of what is timed
    for runner, own in zip(runners, inputs, strict=True):
        slowest = max(_time_calls(runner, own, max(1, spec.warmup)))
        calls.append(max(1, round(MIN_ROUND_S / slowest)))
    times: list[list[list[float]]] = [[] for _ in runners]
    for _ in range(spec.rounds):
        for index, runner in enumerate(runners):
            times[index].append(_time_calls(runner, inputs[index], calls[index]))
    return times


def _time_calls(runner: Runner, images: NDArray[Any], calls: int) -> list[float]:
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        runner.run(images)
        seconds.append(time.perf_counter() - start)
    return seconds


def _summarise(
    name: str, batch: int, turns: list[list[float]], speedups: FloatArray
) -> Measurement:
    every = np.concatenate([np.asarray(turn) for turn in turns])
    medians = np.array([np.median(turn) for turn in turns])
    p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(every, (50, 90, 99)))
    return Measurement(
        name=name,
        batch=batch,
        calls=len(every),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        images_per_s=float(batch * len(every) / every.sum()),
        speedup=float(np.median(speedups)),
        speedup_low=float(speedups.min()),
        speedup_high=float(speedups.max()),
        variation=float(medians.std() / medians.mean()),
    )
