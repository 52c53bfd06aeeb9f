"""What ``swin-deploy bench`` says of times that are known: medians, intervals, verdicts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.data.images import InputSet, make_noise
from swin_deploy.measure.bench.statistics import (
    Measurement,
    is_unstable,
    judge,
    stability_warning,
    summarise,
)
from swin_deploy.measure.bench.stopwatch import BenchSpec, Entrant, run_bench
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray


class Sleeper:
    """A runner that takes a known time for a call."""

    def __init__(self, name: str, call_s: float, offset: float = 0.0) -> None:
        self.name, self.call_s, self.offset = name, call_s, offset
        self.batch = BatchRange(low=1, high=8)
        self.order: list[str] = []

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        self.order.append(self.name)
        time.sleep(self.call_s)
        return {"logits": images.reshape(len(images), -1)[:, :5] + np.float32(self.offset)}


def images(count: int) -> InputSet:
    return make_noise(count, 3, (8, 8))


def measure(*candidates: Sleeper, spec: BenchSpec | None = None) -> list[Measurement]:
    baseline = Sleeper("baseline", 0.02)
    spec = spec or BenchSpec(batches=(4,), rounds=4)
    entrants = [Entrant(candidate, "fp32") for candidate in candidates]
    first = Entrant(baseline, "fp32", "baseline")
    return list(run_bench(first, entrants, images, spec, lambda text: None).measurements)


def test_a_known_time_is_measured_and_compared() -> None:
    """Sleeping is exact from below only, so the bounds leave room for a busy machine above."""
    baseline, faster = measure(Sleeper("faster", 0.01))
    assert baseline.p50_ms >= 20
    assert faster.p50_ms >= 10
    assert baseline.speedup == 1.0
    assert faster.speedup > 1
    assert faster.speedup_low <= faster.speedup <= faster.speedup_high
    assert baseline.images_per_s <= 4 / 0.02
    assert baseline.calls == 4 * round(0.2 / 0.02) or baseline.calls < 40


def test_percentiles_are_in_order_and_every_batch_is_measured() -> None:
    rows = measure(Sleeper("x", 0.001), spec=BenchSpec(batches=(1, 4), rounds=2))
    assert [(row.name, row.batch) for row in rows] == [
        ("baseline", 1),
        ("x", 1),
        ("baseline", 4),
        ("x", 4),
    ]
    for row in rows:
        assert row.p50_ms <= row.p90_ms <= row.p99_ms


def test_runners_take_turns() -> None:
    log: list[str] = []
    one, other = Sleeper("one", 0.1), Sleeper("other", 0.1)
    one.order = other.order = log
    entrants = Entrant(one, "fp32", "baseline"), [Entrant(other, "fp32")]
    run_bench(*entrants, images, BenchSpec(rounds=8, warmup=1), lambda text: None)
    counted = log[4:]  # after the comparison and the warm-up of both
    turns = [counted[index : index + 4] for index in range(0, len(counted), 4)]
    assert len(turns) == 8
    assert all(sorted(turn) == ["one", "one", "other", "other"] for turn in turns)
    assert {turn[0] for turn in turns} == {"one", "other"}  # neither always follows the other


def test_a_fast_engine_with_wrong_outputs_is_not_timed() -> None:
    with pytest.raises(VerificationError, match="wrong disagrees"):
        measure(Sleeper("wrong", 0.001, offset=0.1))


@pytest.mark.fault(36)
def test_a_batch_that_a_runner_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="1:8, not 16"):
        measure(Sleeper("x", 0.001), spec=BenchSpec(batches=(16,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batches": ()}, "batches"), ({"batches": (0,)}, "batches"), ({"rounds": 1}, "rounds = 1")],
)
def test_a_spec_without_meaning_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BenchSpec(**settings)  # type: ignore[arg-type]


class Machine:
    """A clock that only runners advance, by a known time and seeded noise: turns, and calls."""

    def __init__(self, seed: int, turn: float = 0.05, call: float = 0.03) -> None:
        self.now = 0.0
        self._noise, self._turn, self._call = np.random.default_rng(seed), turn, call
        self._slow, self._until = 1.0, 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        if self.now >= self._until:  # another program comes and goes, whoever is running
            self._slow = float(np.exp(self._turn * self._noise.standard_normal()))
            self._until = self.now + 0.3
        self.now += seconds * self._slow * float(np.exp(self._call * self._noise.standard_normal()))


class Worker(Sleeper):
    """A runner on such a machine."""

    def __init__(self, name: str, call_s: float, machine: Machine) -> None:
        super().__init__(name, call_s)
        self.machine = machine

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        self.machine.spend(self.call_s)
        return {"logits": images.reshape(len(images), -1)[:, :5]}


def on_machine(seed: int, factor: float, turn: float = 0.05) -> Measurement:
    machine = Machine(seed, turn)
    first, other = Worker("a", 0.02, machine), Worker("b", 0.02 * factor, machine)
    spec = BenchSpec(clock=machine)
    entrants = Entrant(first, "fp32", "baseline"), [Entrant(other, "fp32")]
    return run_bench(*entrants, images, spec, lambda text: None).measurements[1]


def test_a_known_time_is_measured_within_two_percent() -> None:
    for seed in range(20):
        assert on_machine(seed, 1.5, turn=0.01).p50_ms == pytest.approx(30, rel=0.02)


def test_a_tenth_slower_is_called_slower_and_equal_ones_are_not() -> None:
    slower = [on_machine(seed, 1.1).verdict for seed in range(20)]
    equal = [on_machine(seed, 1.0).verdict for seed in range(20, 40)]
    faster = [on_machine(seed, 1 / 1.1).verdict for seed in range(40, 60)]
    assert slower.count("slower") >= 19
    assert equal.count("not told apart") >= 19
    assert faster.count("faster") >= 19


def test_the_interval_holds_the_ratio() -> None:
    rows = [on_machine(seed, 1.25) for seed in range(20)]
    assert sum(row.speedup_low <= 0.8 <= row.speedup_high for row in rows) >= 17
    assert all(row.speedup_low <= row.speedup <= row.speedup_high for row in rows)


def turns_of(*medians_ms: float) -> list[list[float]]:
    return [[value / 1e3] * 3 for value in medians_ms]


def test_the_figures_of_a_measurement() -> None:
    row = summarise("x", "candidate", 4, [[0.01, 0.03], [0.02, 0.02]], turns_of(40, 40))
    assert (row.calls, row.p50_ms, row.mean_ms) == (4, pytest.approx(20), pytest.approx(20))
    assert row.std_ms == pytest.approx(8.165, abs=1e-3)  # sqrt((100 + 100) / 3)
    assert row.images_per_s == pytest.approx(4 * 4 / 0.08)
    assert row.speedup == pytest.approx(2)
    assert row.p95_ms == pytest.approx(np.percentile([10, 20, 20, 30], 95))


def test_a_verdict_needs_all_but_a_hundredth() -> None:
    assert judge(np.array([1.2] * 20)) == "faster"
    assert judge(np.array([0.8] * 20)) == "slower"
    assert judge(np.array([1.2] * 10 + [0.8] * 10)) == "not told apart"


@pytest.mark.fault(44)
def test_a_noisy_measurement_says_so() -> None:
    quiet = summarise("x", "candidate", 1, turns_of(*[10] * 8), turns_of(*[20] * 8))
    noisy = summarise("y", "candidate", 1, turns_of(*[10, 14] * 4), turns_of(*[20] * 8))
    assert stability_warning([quiet]) == []
    (text,) = stability_warning([quiet, noisy])
    assert "1 of 2 measurements are unstable" in text
    assert noisy.verdict == "faster"  # 20 over 10 or 14, whatever the machine did
    assert "y at batch 1 (17%" in text
    assert not quiet.unstable
    assert is_unstable(quiet.variation, 1.6, on_gpu=False)


def test_a_gpu_is_held_to_tighter_limits() -> None:
    turns = turns_of(*[10, 10.8] * 4)
    assert not summarise("x", "candidate", 1, turns, turns).unstable
    row = summarise("x", "candidate", 1, turns, turns, on_gpu=True)
    assert row.unstable
    bound = replace(row, gpu_ms=1.0, enqueue_ms=0.9, upload_ms=0.8, download_ms=0.4).warnings
    assert ["launches" in bound[0], "copies" in bound[1]] == [True, True]
    assert replace(row, gpu_ms=1.0, enqueue_ms=0.7, upload_ms=0.1).warnings == []
