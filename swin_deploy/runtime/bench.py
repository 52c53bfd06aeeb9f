"""Latency and throughput of an engine on the machine that it was built on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from swin_deploy.core.errors import ConfigError
from swin_deploy.data.images import make_noise_for
from swin_deploy.runtime.engine import SwinEngine

SCHEMA_VERSION = 1
WARMUP = 5  # calls before the first that counts: the first compiles, allocates and fills caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one batch size takes, host to host: copies to a GPU and back are in it.

    Attributes:
        engine: Network, target and precision.
        batch: Images of a call.
        calls: That were timed.
        p50_ms: Median latency of a call; p90 and p99 likewise.
        images_per_s: Over all timed calls.
    """

    engine: str
    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``bench --json`` prints."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def require_seconds(seconds: float) -> None:
    """ConfigError for a time that nobody can measure for."""
    if not 0 < seconds < 86400:
        raise ConfigError(f"seconds = {seconds:g}", "--seconds 5")


def bench_engine(engine: SwinEngine, batch: int | None, seconds: float) -> Timing:
    """Call the engine one call after another, on images that are prepared before.

    Args:
        engine: Open.
        batch: Images of a call; None for the largest that the engine takes.
        seconds: For so long, and at least once.

    Raises:
        ConfigError: The engine does not take such a batch.
    """
    require_seconds(seconds)
    shipped = engine.shipped
    with engine.borrow() as runner:
        count = engine.batch if batch is None else batch
        if not runner.batch.low <= count <= engine.batch:
            raise ConfigError(
                f"{engine.name} takes a batch of {shipped.batch}, not {count}",
                f"--batch {engine.batch}",
            )
        channels, taken = len(shipped.preprocessing.mean), shipped.image_input(engine.precision)
        noise = make_noise_for(taken, count, channels, shipped.image_size)
        images = runner.prepare(noise.images)
        for _ in range(WARMUP):
            runner.run(images)
        times: list[float] = []
        first = time.perf_counter()
        while not times or time.perf_counter() - first < seconds:
            start = time.perf_counter()
            runner.run(images)
            times.append(time.perf_counter() - start)
    p50, p90, p99 = (float(value) * 1e3 for value in np.percentile(times, (50, 90, 99)))
    return Timing(
        engine=engine.name,
        batch=count,
        calls=len(times),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        images_per_s=count * len(times) / sum(times),
    )
