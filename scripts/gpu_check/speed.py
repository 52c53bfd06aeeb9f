"""How fast what was verified is: all in turns beside eager PyTorch, and the GPU's own clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor, nn

from swin_deploy.bench.measure import BenchSpec, run_bench
from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.runners.tensorrt import TensorRtRunner

CLOCKED = 50  # calls by the GPU's clock, after some to warm up
WARM_UP = 10


class Halved(nn.Module):
    """A network after ``.half()`` that takes and gives float32, as the others do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor:
        """(b, channels, H, W) float32 -> (b, classes) float32."""
        return self.network(image.half()).float()  # type: ignore[no-any-return]


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
    (baseline, _), *candidates = runners
    result = run_bench(
        baseline,
        candidates,
        lambda count: InputSet(f"noise x{count}", images[:count]),
        BenchSpec(batches=(batch,), rounds=rounds),
        lambda title: None,
        check=False,  # the parts before this one did, at every batch size
    )
    clocks = {r.name: clock(r, images[:batch]) for r, _ in runners if isinstance(r, TensorRtRunner)}
    rows = [asdict(m) | {"kernels": kernels.get(m.name)} for m in result.measurements]
    details: dict[str, Any] = {"measurements": rows, "gpu_clock": clocks}
    return f"{len(runners)} in turns", details | {"warnings": result.warnings}, None


def clock(runner: TensorRtRunner, images: FloatArray) -> dict[str, Any]:
    """Medians of ``GpuTiming`` over some calls, in milliseconds, and whether as a CUDA graph."""
    with runner:
        given = runner.prepare(images)
        found = [asdict(runner.timing(given)) for _ in range(WARM_UP + CLOCKED)][WARM_UP:]
    graph = all(row.pop("cuda_graph") for row in found)
    medians = {name: float(np.median([row[name] for row in found])) for name in found[0]}
    return medians | {"cuda_graph": graph, "notes": runner.notes}


def bench_lines(details: dict[str, Any]) -> Iterator[str]:
    """The table of ``time_all``."""
    heads = ("p50 ms", "p99 ms", "images/s", "speed-up", "GPU ms", "kernels")
    yield " ".join([f"{'runner':<52}", *(f"{head:>9}" for head in heads)])
    for row in details["measurements"]:
        gpu = details["gpu_clock"].get(row["name"], {}).get("compute_ms")
        cells = [f"{row[key]:.3f}" for key in ("p50_ms", "p99_ms")]
        cells += [f"{row['images_per_s']:.1f}", f"{row['speedup']:.2f}x"]
        cells += ["" if gpu is None else f"{gpu:.3f}", str(row["kernels"] or "")]
        yield " ".join([f"{row['name']:<52}", *(f"{cell:>9}" for cell in cells)])
    yield from details["warnings"]
