"""A quantised graph through NVIDIA's compiler: kernels and bytes, with ranges that are made up.

Which kernels are chosen does not depend on the scales, so nothing is calibrated here: every tensor
gets a positive number as its range, and each another one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from fusion.compile import TARGET
from fusion.rows import Row
from swin_deploy.core.errors import InputError, present
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.cost.listing import Listing, total
from swin_deploy.engine.targets import find_target
from swin_deploy.engine.tensorrt import build_quietly
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model


@dataclass(frozen=True, slots=True)
class Figures:
    """What the compiler made of a graph.

    Attributes:
        kernels: How many.
        fused: Attentions that are one kernel each.
        activation_bytes: Read and written.
        weight_bytes: Read.
    """

    kernels: int
    fused: int
    activation_bytes: int
    weight_bytes: int

    @property
    def moved_bytes(self) -> int:
        """Both."""
        return self.activation_bytes + self.weight_bytes


def write_full(row: Row, path: Path) -> None:
    """The FP32 graph of a row, in the form that an export for its batch takes."""
    form = choose_form({find_target(TARGET).kind}, row.batches.static)
    export_graph(freeze(build_model(row.config), form), row.config, row.batches, path)


def write_half(full: Path, final: Path) -> None:
    """The same in FP16, nothing quantised."""
    convert_to_half(full, final, "fp16")


def write_recipe(full: Path, final: Path, batch: int) -> None:
    """The same, quantised as an export for TensorRT does it."""
    quantize_graph(full, final, made_up_ranges(ir.load(full).graph), RECIPES["tensorrt"], batch)


def made_up_ranges(graph: ir.Graph) -> dict[str, float]:
    """Name of a tensor -> a range, for all of them."""
    values = (*graph.inputs, *(value for node in graph for value in node.outputs))
    return {str(value.name): 2 + index / 1000 for index, value in enumerate(values)}


def list_kernels(write: Callable[[Path], None], batch: BatchRange) -> Listing:
    """Compile the graph that ``write`` writes.

    Raises:
        InputError: The compiler refuses the graph, or its listing cannot be read.
        ResourceError: It gave up.
    """
    module = find_target(TARGET).module
    with tempfile.TemporaryDirectory() as folder:
        graph, plan, log = (Path(folder) / name for name in ("model.onnx", "plan", "log"))
        write(graph)
        listing, _ = run_in_child(build_quietly, log, TIMEOUT_S, module, graph, plan, batch)
    if listing.problem:
        raise InputError(f"its kernels are not known: {listing.problem}")
    return listing


def figures_of(listing: Listing) -> Figures:
    """The sums over a listing of a static batch."""
    activations = present(listing.activation_bytes)  # the batch is static
    weights = present(total(kernel.constant_bytes for kernel in listing.kernels))
    return Figures(len(listing.kernels), listing.fused_attentions, activations, weights)


def megabytes(size: int) -> str:
    """As the tables have them."""
    return f"{size / 1e6:,.0f}" if size >= 1e9 else f"{size / 1e6:.1f}"
