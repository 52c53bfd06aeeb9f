"""How fast what was verified is: all in turns beside eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from swin_deploy.bench.measure import BenchSpec, Entrant, run_bench
from swin_deploy.bench.subject import runs_on_gpu
from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.runners.tensorrt import TensorRtRunner


def time_all(
    runners: Sequence[tuple[Runner, Precision]],
    images: FloatArray,
    batch: int,
    rounds: int,
    kernels: Mapping[str, int | None],
) -> tuple[str, dict[str, Any], None]:
    """Times of one batch size; the first runner is what speed-ups are over.

    Args:
        runners: Verified; not entered.
        images: At least ``batch`` of them.
        batch: Images per call.
        rounds: Turns per runner.
        kernels: Runner -> how many its engine has: whether fewer of them take less time.

    Raises:
        EnvironmentMissingError: There is nothing to time.
    """
    if not runners:
        raise EnvironmentMissingError("nothing on a GPU was verified at this batch size")
    baseline, *others = (
        Entrant(runner, precision, on_gpu=runs_on_gpu(runner)) for runner, precision in runners
    )
    result = run_bench(
        baseline,
        others,
        lambda count: InputSet(f"noise x{count}", images[:count]),
        BenchSpec(batches=(batch,), rounds=rounds),
        lambda title: None,
        check=False,  # the parts before this one did, at every batch size
    )
    rows = [asdict(m) | {"kernels": kernels.get(m.name)} for m in result.measurements]
    notes = {r.name: r.notes for r, _ in runners if isinstance(r, TensorRtRunner) and r.notes}
    details: dict[str, Any] = {"measurements": rows, "notes": notes}
    return f"{len(runners)} in turns", details | {"warnings": result.warnings}, None


def bench_lines(details: dict[str, Any]) -> Iterator[str]:
    """The table of ``time_all``."""
    heads = ("p50 ms", "p99 ms", "images/s", "speed-up", "GPU ms", "kernels")
    yield " ".join([f"{'runner':<52}", *(f"{head:>9}" for head in heads)])
    for row in details["measurements"]:
        gpu = row["gpu_ms"]
        cells = [f"{row[key]:.3f}" for key in ("p50_ms", "p99_ms")]
        cells += [f"{row['images_per_s']:.1f}", f"{row['speedup']:.2f}x"]
        cells += ["" if gpu is None else f"{gpu:.3f}", str(row["kernels"] or "")]
        yield " ".join([f"{row['name']:<52}", *(f"{cell:>9}" for cell in cells)])
    yield from details["warnings"]
