"""Times of calls -> what a table shows of them, and how sure one can be of a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.records import Batch, Count, Number, Positive, Text

RESAMPLES = 9999
SHOWN, DECIDES = 0.95, 0.99  # confidence of the interval in a table, and of a verdict
UNSTABLE = 0.10  # coefficient of variation of the turns' medians, on a CPU
UNSTABLE_ON_GPU = 0.025  # likewise, where trtexec warns
UNSTABLE_TAIL = 1.5  # p90 over p50: calls that waited for a core
LAUNCH_BOUND = 0.8  # enqueue time over GPU time, where trtexec warns

Turns = list[list[float]]  # seconds of each call of each turn
Role = Literal["baseline", "candidate"]
# Earlier versions called unstable what varied too much; their files are read, too.
Verdict = Literal["faster", "slower", "not told apart", "unstable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One runner at one batch size.

    Attributes:
        name: The runner.
        role: Whether it is there to be compared with, or what was asked about.
        batch: Images per call.
        calls: Calls that were timed.
        p50_ms: Median latency of a call, host to host; p90, p95 and p99 likewise.
        mean_ms: Mean latency of a call.
        std_ms: Standard deviation of the latency of a call.
        images_per_s: Over all timed calls.
        speedup: Baseline's median latency over this one's, turn by turn; the median of the turns.
        speedup_low: Lower end of its interval of 95 %.
        speedup_high: Upper end.
        verdict: What the interval of 99 % says of it and the baseline.
        variation: Standard deviation of the turns' medians over their mean.
        on_gpu: Whether the limits of a GPU hold for it.
        gpu_ms: Time on the GPU between two events; None on a CPU.
        enqueue_ms: Time to hand the work to the GPU; None on a CPU.
        upload_ms: Copies to the GPU; None on a CPU, and ``download_ms`` those back.
        download_ms: See there.
        cuda_graph: Whether the engine's work went as one CUDA graph of the runner; None on a CPU.
        joules_per_image: Above what the idle machine takes; None where nothing measures power.
        unstable: Whether the machine was too noisy for the milliseconds to mean much.
    """

    name: Text
    role: Role
    batch: Batch
    calls: Count
    p50_ms: Positive
    p90_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    mean_ms: Positive
    std_ms: Number
    images_per_s: Positive
    speedup: Number
    speedup_low: Number
    speedup_high: Number
    verdict: Verdict
    variation: Number
    on_gpu: bool = False
    gpu_ms: Number | None = None
    enqueue_ms: Number | None = None
    upload_ms: Number | None = None
    download_ms: Number | None = None
    cuda_graph: bool | None = None
    joules_per_image: Number | None = None
    unstable: bool = False

    @property
    def warnings(self) -> list[str]:
        """What bounds it, where that is not computing; limits are those of trtexec."""
        found: list[str] = []
        who = f"{self.name} at batch {self.batch}"
        if self.gpu_ms is None or self.enqueue_ms is None:
            return found
        if self.enqueue_ms > LAUNCH_BOUND * self.gpu_ms:
            found.append(
                f"{who} is bound by launches: handing over the work takes {self.enqueue_ms:.3f} ms "
                f"of {self.gpu_ms:.3f} ms on the GPU (limit {LAUNCH_BOUND:.0%}); a CUDA graph or a "
                "larger batch"
            )
        copies = (self.upload_ms or 0) + (self.download_ms or 0)
        if copies > self.gpu_ms:
            found.append(
                f"{who} is bound by copies: {copies:.3f} ms to and from the GPU, {self.gpu_ms:.3f} "
                "ms on it; --io uint8 or --io fp16 at export"
            )
        return found


def summarise(
    name: str,
    role: Role,
    batch: int,
    turns: Turns,
    baseline: Turns,
    on_gpu: bool = False,
    joules_per_image: float | None = None,
) -> Measurement:
    """The measurement of one runner.

    Args:
        name: The runner.
        role: See ``Measurement``.
        batch: Images per call.
        turns: Its seconds.
        baseline: Those of the baseline, in the same turns.
        on_gpu: Whether the limits of a GPU hold for it.
        joules_per_image: See ``Measurement``.
    """
    every = np.concatenate([np.asarray(turn) for turn in turns])
    own, other = medians(turns), medians(baseline)
    ratios = other / own
    p50, p90, p95, p99 = (float(v) * 1e3 for v in np.percentile(every, (50, 90, 95, 99)))
    low, high = interval_of_median(ratios, SHOWN)
    variation = float(own.std() / own.mean())
    return Measurement(
        name=name,
        role=role,
        batch=batch,
        calls=len(every),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(every.mean() * 1e3),
        std_ms=float(every.std(ddof=1) * 1e3) if len(every) > 1 else 0.0,
        images_per_s=float(batch * len(every) / every.sum()),
        speedup=float(np.median(ratios)),
        speedup_low=low,
        speedup_high=high,
        verdict=judge(ratios),
        variation=variation,
        on_gpu=on_gpu,
        joules_per_image=joules_per_image,
        unstable=is_unstable(variation, p90 / p50, on_gpu),
    )


def medians(turns: Turns) -> NDArray[np.float64]:
    """Median seconds of the calls of each turn: (turns,)."""
    return np.array([np.median(turn) for turn in turns], dtype=np.float64)


def interval_of_median(
    values: Sequence[float] | NDArray[np.float64], confidence: float
) -> tuple[float, float]:
    """Percentile bootstrap of the median; turns are drawn, since calls of one share its noise.

    Args:
        values: One per turn.
        confidence: 0 to 1.
    """
    from scipy import stats  # here: it takes longer than all that a request is checked with

    found = stats.bootstrap(
        (np.asarray(values),),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def judge(ratios: NDArray[np.float64]) -> Verdict:
    """What the ratios of the turns, baseline over candidate, say about the two.

    By the interval of 99 %: a report has many rows, and with 95 % about one in fourteen comparisons
    of equal runners was called different (see scripts/measure_harness.py).
    """
    low, high = interval_of_median(ratios, DECIDES)
    return "faster" if low > 1 else "slower" if high < 1 else "not told apart"


def stability_warning(rows: Sequence[Measurement]) -> list[str]:
    """One line about all measurements of a busy machine; none where it was quiet."""
    shaky = [row for row in rows if row.unstable]
    if not shaky:
        return []
    names = ", ".join(
        f"{row.name} at batch {row.batch} ({row.variation:.0%}, p90 {row.p90_ms / row.p50_ms:.1f} "
        "times p50)"
        for row in shaky
    )
    limit = UNSTABLE_ON_GPU if any(row.on_gpu for row in shaky) else UNSTABLE
    return [
        f"the milliseconds of {len(shaky)} of {len(rows)} measurements are unstable: turns vary by "
        f"more than {limit:.1%}, or p90 is above {UNSTABLE_TAIL} times p50. Speed-ups compare "
        "runners within a turn, and their intervals allow for it. Close other programs, fix the "
        f"clocks, or raise --rounds: {names}"
    ]


def is_unstable(variation: float, tail: float, on_gpu: bool) -> bool:
    """Whether a runner with this variation, and p90 over p50, was measured on a busy machine."""
    return variation > (UNSTABLE_ON_GPU if on_gpu else UNSTABLE) or tail > UNSTABLE_TAIL
