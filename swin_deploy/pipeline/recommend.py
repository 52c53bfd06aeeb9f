"""Which of a run's engines to ship: measured where they run, else by cost, and said which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.engine.cost.listing import load_listing, total
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.network.interface import PRECISIONS, Precision
from swin_deploy.pipeline.run import RunResult

# What a coarser precision has to save before cost alone, which is no time, speaks for it; and what
# it may cost in kernels, each of which is a launch.
FEWER_BYTES, MORE_KERNELS = 0.9, 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to ship to a target.

    Attributes:
        basis: "measured" here, by "cost" where nothing could be run or told apart, or the "only".
        reason: For people, with the figures.
    """

    target: str
    precision: Precision
    basis: Literal["measured", "cost", "only"]
    reason: str


def recommend(result: RunResult, progress: Callable[[str], None]) -> list[Recommendation]:
    """One for every target of a run.

    It starts from the most exact precision and goes on to a coarser one only where that is faster
    beyond doubt, or clearly cheaper where nothing can be measured.

    Args:
        result: Of the run.
        progress: Told what is being measured.
    """
    built: dict[str, list[Precision]] = {}
    for name, record in result.stages.items():
        if name.startswith("engine:"):
            built.setdefault(record.details["target"], []).append(record.details["precision"])
    for precisions in built.values():
        precisions.sort(key=PRECISIONS.index)
    several = {name for name, precisions in built.items() if len(precisions) > 1}
    measured = _measure(result.path, progress) if several else {}
    found = []
    for name, precisions in built.items():
        if name not in several:
            text = f"the only one built of {', '.join(TARGETS[name].precisions)}"
            if "int8" in TARGETS[name].precisions and precisions != ["int8"]:
                text += "; INT8 needs --calibration"
            choice = Recommendation(target=name, precision=precisions[0], basis="only", reason=text)
        elif all(f"engine {name}-{precision}" in measured for precision in precisions):
            choice = by_measurement(name, precisions, measured)
        else:
            choice = by_cost(result, TARGETS[name], precisions)
        found.append(choice)
    return found


def _measure(path: Path, progress: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Engine -> its measurement at the largest batch; empty where none can run here."""
    try:
        report = bench_engine(BenchRequest(engine=path, rounds=10), progress)
    except EnvironmentMissingError as error:
        progress(f"nothing can be measured: {error.problem}")
        return {}
    largest = max(row["batch"] for row in report["measurements"])
    return {row["name"]: row for row in report["measurements"] if row["batch"] == largest}


def by_measurement(
    target: str, precisions: list[Precision], measured: dict[str, dict[str, Any]]
) -> Recommendation:
    """The coarsest precision whose interval of speed-ups lies above that of the more exact ones.

    Args:
        target: Its name.
        precisions: The most exact first.
        measured: Engine -> a row of ``bench``.
    """
    rows = {precision: measured[f"engine {target}-{precision}"] for precision in precisions}
    best = precisions[0]
    for precision in precisions[1:]:
        steady = not (rows[precision]["unstable"] or rows[best]["unstable"])
        if steady and rows[precision]["speedup_low"] > rows[best]["speedup_high"]:
            best = precision
    figures = ", ".join(
        f"{precision} {row['p50_ms']:.2f} ms" + (" (unstable)" if row["unstable"] else "")
        for precision, row in rows.items()
    )
    text = f"measured here at batch {rows[best]['batch']}: {figures}"
    if best == precisions[0]:
        text += "; nothing coarser is faster beyond doubt"
    return Recommendation(target=target, precision=best, basis="measured", reason=text)


def by_cost(result: RunResult, target: Target, precisions: list[Precision]) -> Recommendation:
    """The coarsest precision that moves clearly fewer bytes in hardly more kernels.

    Args:
        result: Of the run.
        target: Whose engines cannot run here.
        precisions: The most exact first.
    """
    costs = {precision: _cost(result, target, precision) for precision in precisions}
    best = precisions[0]
    for precision in precisions[1:]:
        (kernels, moved), (own, other) = costs[precision], costs[best]
        if moved is None or other is None or kernels is None or own is None:
            continue
        if moved <= FEWER_BYTES * other and kernels <= MORE_KERNELS * own:
            best = precision
    figures = ", ".join(
        f"{precision} {'?' if kernels is None else kernels} kernels"
        + (" (bytes depend on the batch)" if moved is None else f" and {moved / 1e6:.1f} MB")
        for precision, (kernels, moved) in costs.items()
    )
    text = (
        f"{figures}; that is no time: nothing was run, as that takes the device. "
        "There, swin-deploy bench says which is faster"
    )
    return Recommendation(target=target.name, precision=best, basis="cost", reason=text)


def _cost(result: RunResult, target: Target, precision: Precision) -> tuple[int | None, int | None]:
    """Kernels, and bytes of activations and weights that they move."""
    name = target.listing_name(precision)
    if name is None or not (result.path / name).is_file():
        return None, None
    listing = load_listing(result.path / name)
    moved = total(
        total((kernel.activation_bytes, kernel.constant_bytes)) for kernel in listing.kernels
    )
    return len(listing.kernels) or None, moved
