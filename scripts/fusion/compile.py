"""A graph through NVIDIA's compiler, on a machine without a GPU: what it made of the graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import nn

from fusion.naive import MAKERS
from fusion.rows import Row
from swin_deploy.engine.build import BuiltEngine, build_engine
from swin_deploy.engine.targets import find_target
from swin_deploy.graph.export import export_graph, export_plainly
from swin_deploy.graph.half import convert_to_half
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model

TARGET = "rtx"  # for its default compute capabilities


def compile_written(write: Callable[[Path], None], batch: BatchRange) -> BuiltEngine:
    """Compile the FP16 graph that ``write`` writes.

    Raises:
        EnvironmentMissingError: The compiler is not installed.
        InputError: It refuses the graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph, plan, log = (Path(folder) / name for name in ("model.onnx", "plan", "log"))
        write(graph)
        return build_engine(find_target(TARGET), graph, plan, batch, log)


def compile_naive(row: Row, library: str) -> BuiltEngine:
    """The library's own model of this row."""
    model = MAKERS[library](row).half()
    return compile_written(
        lambda path: export_plainly(model, row.config, row.batches, path), row.batches
    )


def compile_frozen(network: nn.Module, config: NetworkConfig, batch: BatchRange) -> BuiltEngine:
    """A network in export form, through the stages of an export."""

    def write(path: Path) -> None:
        export_graph(network, config, batch, path)
        convert_to_half(path, path, "fp16")

    return compile_written(write, batch)


def compile_ours(row: Row) -> BuiltEngine:
    """Our network of this row."""
    return compile_frozen(our_network(row), row.config, row.batches)


def our_network(row: Row) -> nn.Module:
    """The network of this row in the form that an export for its batch takes."""
    form = choose_form({find_target(TARGET).kind}, row.batches.static)
    return freeze(build_model(row.config), form)
