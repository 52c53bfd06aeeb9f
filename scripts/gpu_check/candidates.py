"""Everything that might run here: eager PyTorch, ONNX Runtime's providers, engines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpu_check.graphs import Graph, Reference
from gpu_check.probe import require_gpu, require_torch_cuda
from gpu_check.report import Report
from gpu_check.slots import verify_slots
from swin_deploy.batches import BatchRange
from swin_deploy.engine.build import BuiltEngine, build_engine
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import find_target
from swin_deploy.graph.plain import Halved
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.runners.onnxruntime import CPU, GPU, OnnxRuntimeRunner
from swin_deploy.runners.tensorrt import TensorRtRunner
from swin_deploy.runners.torch_eager import TorchRunner

COMPILERS = ("tensorrt", "rtx")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runner that may be entered more than once.

    Attributes:
        runner: Not entered.
        precision: Whose floor it is held to.
        batch: What it takes.
        on_gpu: Whether it is worth timing here.
        kernels: Of an engine, as its compiler lists them.
    """

    runner: Runner
    precision: Precision
    batch: BatchRange
    on_gpu: bool = True
    kernels: int | None = None

    def takes(self, batch: int) -> bool:
        """Whether a call may have that many images."""
        return self.batch.low <= batch <= self.batch.high


def verified(
    report: Report, reference: Reference, graphs: Sequence[Graph], folder: Path
) -> Iterator[Candidate]:
    """The candidates that computed what the reference does, each a part of the report."""
    for candidate in (
        *_eager(reference),
        *_providers(graphs),
        *_engines(report, graphs, folder),
    ):
        work = partial(_verify, candidate, reference)
        before = len(report.parts)
        report.run("verify", candidate.runner.name, work)
        if report.parts[before].state == "passed":
            yield candidate


def _verify(candidate: Candidate, reference: Reference) -> tuple[str, dict[str, Any], None]:
    runner = candidate.runner
    if isinstance(runner, TensorRtRunner):
        require_gpu()
    if isinstance(runner, TorchRunner) and runner.device == "cuda":
        require_torch_cuda()
    with runner:
        says, details, _ = verify_slots(
            runner, reference.images, reference.logits, candidate.precision
        )
        notes = list(getattr(runner, "notes", ()))
    return "; ".join([says, *notes]), details | {"notes": notes}, None


def _eager(reference: Reference) -> Iterator[Candidate]:
    batch = BatchRange(low=1, high=len(reference.images))
    for precision in ("fp32", "fp16"):
        model = copy.deepcopy(reference.eager)  # each runner moves its own to the GPU
        network = Halved(model).eval() if precision == "fp16" else model
        runner = TorchRunner(network, f"eager {precision} on torch cuda", "cuda")
        yield Candidate(runner, precision, batch)  # type: ignore[arg-type]


def _providers(graphs: Sequence[Graph]) -> Iterator[Candidate]:
    """Graphs in FP32 on the CPU, which vouches for them, and all on every provider for GPUs."""
    for graph in graphs:
        for provider in (CPU, *GPU[:2]):
            name = f"onnxruntime {provider}, {graph}"
            runner = OnnxRuntimeRunner(
                graph.path, name=name, image_input=graph.image_input, provider=provider
            )
            found = Candidate(runner, graph.precision, graph.batch, on_gpu=provider != CPU)
            if provider != CPU or graph.precision == "fp32":
                yield found


def _engines(report: Report, graphs: Sequence[Graph], folder: Path) -> Iterator[Candidate]:
    for compiler in COMPILERS:
        target = find_target(compiler)
        for graph in graphs:
            plan = folder / f"{compiler}-{graph.path.stem}.plan"
            work = partial(_build, target, graph, plan)
            if (built := report.run("build", f"{target.module}, {graph}", work)) is None:
                continue
            for cuda_graph in (True, False):
                how = "with CUDA graph" if cuda_graph else "without"
                runner = TensorRtRunner(
                    plan,
                    target.module,
                    f"{target.module}, {graph}, {how}",
                    graph.image_input,
                    cuda_graph=cuda_graph,
                    cache_folder=folder,
                )
                yield Candidate(runner, graph.precision, graph.batch, kernels=built.kernels)


def _build(target: Target, graph: Graph, plan: Path) -> tuple[str, dict[str, Any], BuiltEngine]:
    built = build_engine(target, graph.path, plan, graph.batch, plan.with_suffix(".log"))
    says = f"{plan.stat().st_size / 1e6:.1f} MB, {built.kernels or 'unknown number of'} kernels, "
    says += f"{built.fused_attentions or 0} fused attentions"
    details = {"kernels": built.kernels, "fused_attentions": built.fused_attentions}
    return says, details | {"version": built.version}, built
