"""Frozen PyTorch network -> ONNX file."""

from __future__ import annotations

import copyreg
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import torch
from torch import nn
from torch._dynamo.exc import UserError
from torch.onnx.errors import OnnxExporterError

from swin_deploy.batches import BatchRange
from swin_deploy.errors import InputError
from swin_deploy.files import atomic_path
from swin_deploy.graph.naming import NameNodesByModule
from swin_deploy.interface import LOGITS
from swin_deploy.narrow import present
from swin_deploy.networks import NetworkConfig
from swin_deploy.onnx_file import read_onnx

OPSET = 20  # the lowest with all that the graphs have: Gelu; every target's parser reads it
INPUT = "image"
Ends = dict[str, tuple[str, list[int | str]]]


def export_graph(
    model: nn.Module,
    config: NetworkConfig,
    batch: BatchRange,
    path: Path,
    outputs: Sequence[str] = (LOGITS,),
    opset: int = OPSET,
) -> None:
    """Trace ``model`` and write it to ``path``: weights embedded, no trace of where it was made.

    Args:
        model: On the CPU, in eval mode. ``image`` (b, channels, H, W) float32, normalised ->
            (b, ...) float32, one per output.
        config: Its architecture.
        batch: Static where both ends are equal.
        path: Replaced if it exists.
        outputs: What they are called.
        opset: Of ONNX's operators, ``OPSET`` or newer.

    Raises:
        InputError: PyTorch cannot trace the model, or ONNX rejects the result.
    """
    example = torch.zeros(batch.high, config.in_channels, *config.image_size)
    dynamic = None
    if not batch.static:
        dynamic = ({0: torch.export.Dim("batch", min=batch.low, max=batch.high)},)
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                model,
                (example,),
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=opset,
                dynamic_shapes=dynamic,
                dynamo=True,
                verbose=False,
            )
        graph = present(program).model  # dynamo=True without a path always returns the program
        NameNodesByModule()(graph)
        common_passes.ClearMetadataAndDocStringPass()(graph)
        graph.graph.name = config.name
        ir.save(graph, path)
        check_graph(path)
    except (OnnxExporterError, UserError) as error:
        raise InputError(f"{config.name} does not export at opset {opset}: {error}") from error


@contextmanager
def rewrite(source: Path, final: Path) -> Iterator[ir.Model]:
    """Change a graph in memory within ``with``; only what passes the checker replaces ``final``.

    Graphs of ours have no subgraphs and no functions: passes look at the nodes of ``graph`` alone.
    """
    model = ir.load(source)
    yield model
    with atomic_path(final) as scratch:
        ir.save(model, scratch)
        check_graph(scratch)


def check_graph(path: Path) -> None:
    """Run the ONNX checker, by path and with strict shape inference."""
    read_onnx(path, infer=True)


def read_outputs(path: Path) -> dict[str, list[int | str]]:
    """What a valid ONNX file gives: name -> shape; an axis is a name where it is dynamic."""
    return {name: shape for name, (_, shape) in read_ends(path)[1].items()}


def read_ends(path: Path) -> tuple[Ends, Ends]:
    """Inputs and outputs of a valid ONNX file: name -> dtype and shape, as ``read_outputs``."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found: list[Ends] = []
    for values in (graph.input, graph.output):
        ends: Ends = {}
        for value in values:
            tensor = value.type.tensor_type
            shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            if value.name not in weights:
                ends[value.name] = str(dtype), shape
        found.append(ends)
    return found[0], found[1]


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about its own internals; warnings are as before afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning, copyreg.__name__)
            yield
    finally:
        logger.setLevel(level)
