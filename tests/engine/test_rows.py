"""Engines for every row of the table of targets that the compiler builds without the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import pytest

from quantisation.engines import made_up_ranges
from swin_deploy.core.errors import SwinDeployError
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.tensorrt import build_tensorrt
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.network.interface import BatchRange

ROWS = [name for name, row in TARGETS.items() if row.module == "tensorrt_rtx"]
BATCH = BatchRange(low=2, high=2)
ATTENTIONS = 6  # of the pocket network


@dataclass(frozen=True)
class Outcome:
    """What became of one graph: its kernels, or why there are none."""

    kernels: int = 0
    fused: int = 0
    int8: int = 0
    names: frozenset[str] = frozenset()
    error: str = ""


def compile_all(graphs: dict[str, Path], folder: Path) -> dict[tuple[str, str], Outcome]:
    """Compile each graph for each row, in one process: starting one takes longer than a build."""
    outcomes = {}
    for name in ROWS:
        for precision, graph in graphs.items():
            plan = folder / f"{name}-{precision}.plan"
            capability = TARGETS[name].compute_capability
            try:
                made = build_tensorrt(print, "tensorrt_rtx", graph, plan, BATCH, capability)
            except SwinDeployError as error:
                outcomes[name, precision] = Outcome(error=str(error))
                continue
            kernels = made.listing.kernels
            outcomes[name, precision] = Outcome(
                len(kernels),
                made.listing.fused_attentions,
                sum(any(t.dtype == "Int8" for t in kernel.inputs) for kernel in kernels),
                frozenset(kernel.name for kernel in kernels),
            )
    return outcomes


@pytest.fixture(scope="module")
def outcomes(
    fixed_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Outcome]:
    folder = tmp_path_factory.mktemp("rows")
    full, quantised = fixed_run / "model.onnx", folder / "model.int8.onnx"
    quantize_graph(full, quantised, made_up_ranges(ir.load(full).graph), RECIPES["tensorrt"], 1)
    graphs = {"fp16": fixed_run / "model.fp16.onnx", "int8": quantised}
    return run_in_child(compile_all, folder / "log", 300, graphs, folder)


@pytest.mark.parametrize("name", ROWS)
def test_fp16_and_int8_compile_for_the_row(
    name: str, outcomes: dict[tuple[str, str], Outcome]
) -> None:
    half, small = outcomes[name, "fp16"], outcomes[name, "int8"]
    assert half.error == small.error == ""
    assert half.fused == small.fused == ATTENTIONS
    # NVIDIA's matrix has no INT8 for Turing, so no row offers it; the compiler takes it all the
    # same, with kernels that nobody has run.
    assert (half.kernels, small.kernels) == ((58, 60) if name == "rtx-20" else (52, 54))
    assert half.int8 == 0
    assert small.int8 > ATTENTIONS


def test_the_row_reaches_the_compiler(outcomes: dict[tuple[str, str], Outcome]) -> None:
    """Turing has no fusions that need Ampere."""
    assert ROWS == ["rtx", "rtx-20", "rtx-30", "rtx-40", "rtx-50"]
    assert outcomes["rtx-20", "fp16"].names != outcomes["rtx", "fp16"].names
    assert outcomes["rtx-30", "fp16"].names == outcomes["rtx", "fp16"].names
