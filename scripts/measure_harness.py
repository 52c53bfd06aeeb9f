"""The stopwatch of bench on this machine: runners that wait a known time, equal ones, slower ones.

    python scripts/measure_harness.py [REPEATS]

A runner that sleeps has to be measured within 2 %, one that takes a tenth longer has to be called
slower, and two equal ones must not be told apart, each in at least 19 of 20 repeats.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from swin_deploy.data.images import make_noise
from swin_deploy.measure.bench.statistics import Measurement
from swin_deploy.measure.bench.stopwatch import BenchSpec, Entrant, run_bench
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray

CALL_S = 0.02


class Waiter:
    """A runner that takes a known time: it sleeps nearly all of it, and watches the clock then."""

    batch = BatchRange(low=1, high=8)

    def __init__(self, name: str, call_s: float) -> None:
        self.name, self.call_s = name, call_s

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        end = time.perf_counter() + self.call_s
        time.sleep(0.9 * self.call_s)
        while time.perf_counter() < end:
            pass
        return {"logits": images.reshape(len(images), -1)[:, :5]}


def measure(factor: float, rounds: int) -> Measurement:
    """The second of two runners, which takes ``factor`` times as long as the first."""
    first = Entrant(Waiter("one", CALL_S), "fp32", "baseline")
    other = Entrant(Waiter("other", factor * CALL_S), "fp32")
    spec = BenchSpec(rounds=rounds)
    result = run_bench(
        first, [other], lambda count: make_noise(count, 3, (8, 8)), spec, lambda text: None
    )
    return result.measurements[1]


def main(repeats: int) -> int:
    """Print what came out; 1 where it is less than was promised."""
    worst, passed = 0.0, True
    for factor, wanted in ((1.0, "not told apart"), (1.1, "slower"), (1 / 1.1, "faster")):
        found: Counter[str] = Counter()
        for _ in range(repeats):
            row = measure(factor, rounds=10)
            found[row.verdict] += 1
            worst = max(worst, abs(row.p50_ms / (1e3 * CALL_S * factor) - 1))
        passed &= found[wanted] >= 0.95 * repeats
        print(f"{factor:.2f} times as long: {dict(found)}, wanted {wanted!r}", flush=True)
    print(f"known times are measured to {worst:.2%}")
    return 0 if passed and worst <= 0.02 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
