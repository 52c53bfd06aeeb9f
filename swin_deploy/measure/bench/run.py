"""One call from a path to a finished bench report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import (
    Checked,
    SwinDeployError,
    VerificationError,
    caught,
    typed,
    wrong_counts,
)
from swin_deploy.core.reports import replace_report, require_report
from swin_deploy.data.images import make_noise_for
from swin_deploy.engine.here import describe_machine
from swin_deploy.engine.runners.onnxruntime import CPU
from swin_deploy.measure.bench import DEFAULT_BASELINES, Baseline
from swin_deploy.measure.bench.power import (
    PowerMeter,
    condition_warnings,
    describe_conditions,
    find_rails,
)
from swin_deploy.measure.bench.report import KIND, BenchReport
from swin_deploy.measure.bench.stopwatch import BenchSpec, Entrant, run_bench
from swin_deploy.measure.bench.subject import Subject, open_subject, runs_on_gpu
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.model import import_torch
from swin_deploy.run.details import BENCH

_EARLIER = ("measurements", "rounds")  # what reports have that do not say their kind


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest(Checked):
    """What to measure; fields are the options of ``bench``, here what its help does not say.

    Attributes:
        batches: None for those that the run was exported for.
        baselines: Eager FP32 is always there.
        threads: For every runner alike; None for one per usable core.
        provider: In full or short.
    """

    engine: Path
    batches: tuple[int, ...] | None = None
    rounds: int = 20
    baselines: tuple[Baseline, ...] = DEFAULT_BASELINES
    threads: int | None = None
    variant: Variant | None = None
    provider: str = CPU

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        yield from wrong_counts(threads=self.threads)
        for kept in ({"rounds": self.rounds}, {"batches": self.batches or (1,)}):
            yield from caught(partial(BenchSpec, **kept))


def bench_engine(request: BenchRequest, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure engines beside the eager network and, for a run, write its ``bench.json``.

    Where that cannot be written, as in a run that is only read, "warnings" say so.

    Returns:
        The JSON object of ``bench --json``.
    """
    threads = request.threads or len(os.sched_getaffinity(0))
    subject = open_subject(request.engine, threads, request.variant, request.provider)
    if subject.run is not None:
        require_report(subject.run.path / BENCH, KIND, _EARLIER, "move it away")
    spec = BenchSpec(batches=request.batches or _own_batches(subject), rounds=request.rounds)
    config = subject.config
    conditions = describe_conditions(threads)
    progress("building the eager network")
    import_torch()  # here and not above: what cannot be measured is refused before
    import torch

    from swin_deploy.measure.bench.baselines import EagerNetwork, eager_entrant, other_baselines
    from swin_deploy.network.model.build import load_model, with_outputs

    torch.set_num_threads(threads)
    device = "cuda" if subject.on_gpu and torch.cuda.is_available() else "cpu"
    model = load_model(config, subject.weights, subject.seed)
    network = EagerNetwork(
        model=with_outputs(model, subject.outputs, config.name),
        config=config,
        device=device,
        threads=threads,
    )
    candidates = [
        Entrant(runner, precision, "candidate", runs_on_gpu(runner))
        for runner, precision in subject.candidates
    ]
    plain = [
        Entrant(bare, precision, "baseline", True) for bare, precision in subject.without_graphs
    ]
    rails = find_rails()
    with other_baselines(
        request.baselines, network, spec.batches, subject.targets, progress, subject.not_run
    ) as others:
        result = run_bench(
            eager_entrant(network),
            [*others, *plain, *candidates],
            lambda count: make_noise_for(
                subject.images, count, config.in_channels, config.image_size
            ),
            spec,
            progress,
            check=subject.known,
            floors_db=subject.floors_db,
            interface=subject.interface,
            power=PowerMeter(rails) if rails else None,
        )
    warnings = [*result.warnings, *condition_warnings(conditions), *subject.notes]
    if not subject.known:
        warnings.append(
            f"outputs were not compared: the weights behind {request.engine} are not known"
        )
    report = BenchReport(
        network=config.name,
        engine=str(request.engine),
        outputs=subject.outputs,
        threads=threads,
        rounds=spec.rounds,
        batches=spec.batches,
        baselines=request.baselines,
        measurements=result.measurements,
        checks=tuple(check.row() for check in result.checks),
        conditions=conditions,
        machine=describe_machine(),
        warnings=tuple(warnings),
        not_run=subject.not_run,
    ).as_dict()
    if subject.run is not None:
        _keep(subject.run.path / BENCH, report)
    return report


def _keep(path: Path, report: dict[str, Any]) -> None:
    """Write it into the run; of one that cannot be written, the report itself says so."""
    try:
        replace_report(path, report, "warnings")
    except (OSError, SwinDeployError) as error:
        if (known := typed(error)) is None:
            raise
        report["warnings"].append(f"{path.name} was not kept: {known.problem}")


def _own_batches(subject: Subject) -> tuple[int, ...]:
    if subject.run is None:
        return (1,)
    batch = subject.run.batch
    return tuple(dict.fromkeys((batch.low, batch.high)))


def require_speed(report: dict[str, Any], fail_below: float) -> None:
    """Pass if every engine of the report is surely so many times as fast as eager PyTorch.

    Args:
        report: Of ``bench_engine``.
        fail_below: What the lower end of each speed-up's interval of 95 % has to reach.
    """
    rows = [row for row in report["measurements"] if row["role"] == "candidate"]
    slow = [row for row in rows if not row["speedup_low"] >= fail_below]
    if slow:
        worst = min(slow, key=lambda row: row["speedup_low"])
        raise VerificationError(
            f"{worst['name']} at batch {worst['batch']} is {worst['speedup']:.2f} times as fast as "
            f"{report['measurements'][0]['name']} (95 % interval {worst['speedup_low']:.2f} to "
            f"{worst['speedup_high']:.2f}), --fail-below {fail_below:g} needs its lower end there",
            "another precision or target, or --rounds on a quieter machine",
        )
