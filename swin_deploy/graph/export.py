"""Frozen PyTorch network -> ONNX file with names of its modules; and any network, plainly."""

from __future__ import annotations

import copyreg
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.onnx.errors import OnnxExporterError

from swin_deploy.core.errors import InputError, present
from swin_deploy.core.files import atomic_path
from swin_deploy.core.onnx_file import SCOPES, module_in, read_onnx
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.interface import LOGITS, BatchRange


class NameNodesByModule(ir.passes.InPlacePass):
    """Rename nodes after the module that they came from, and give weights back their names.

    Before:  node_MatMul_29(x, val_32)   with the exporter's metadata
    After:   layers.0.blocks.0.attn.qkv/MatMul(x, layers.0.blocks.0.attn.qkv.weight)

    The exporter transposes the weight of a linear layer into a fresh constant; it takes the name
    that it had in the module, unless another value has that already. Nodes without the metadata
    keep their names.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        used: Counter[str] = Counter()
        taken = {value.name for value in model.graph.initializers.values()}
        for node in model.graph:
            if (scopes := node.metadata_props.get(SCOPES)) is None:
                continue
            scope = module_in(scopes)
            stem = f"{scope}/{node.op_type}" if scope else node.op_type
            used[stem] += 1
            node.name = stem if used[stem] == 1 else f"{stem}_{used[stem]}"
            modified = True
            weight = node.inputs[1] if node.op_type == "MatMul" else None
            name = f"{scope}.weight"
            if weight is not None and weight.is_initializer() and name not in taken:
                weight.name = name
                taken.add(name)
        return ir.passes.PassResult(model, modified=modified)


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


class Halved(nn.Module):
    """A network after ``.half()`` with FP32 images and outputs, as our FP16 graphs have them.

    Attributes:
        image_dtype: What it takes, where its weights would say otherwise.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.image_dtype = network.half(), torch.float32

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(b, channels, H, W) float32 -> what the network gives, float32."""
        outputs = self.network(image.half())
        if isinstance(outputs, Tensor):
            return outputs.float()
        return tuple(output.float() for output in outputs)


def export_plainly(
    model: nn.Module,
    config: NetworkConfig,
    batch: BatchRange,
    path: Path,
    outputs: Sequence[str] | None = None,
) -> None:
    """Write ``model`` to ``path`` as a user would without this package.

    Args:
        model: On the CPU. Takes images of its attribute ``image_dtype``, or else of the dtype of
            its weights.
        config: The size of its images.
        batch: Static or dynamic.
        path: Gets the graph, weights embedded.
        outputs: Names of its outputs, beside ``image``; None for what the exporter calls them all.
    """
    dtype = getattr(model, "image_dtype", next(model.parameters()).dtype)
    example = torch.zeros(batch.high, config.in_channels, *config.image_size, dtype=dtype)
    options: dict[str, Any] = {}
    if not batch.static:
        sizes = torch.export.Dim("batch", min=batch.low, max=batch.high)
        options["dynamic_shapes"] = ({0: sizes},)
    if outputs is not None:
        options |= {"input_names": ["image"], "output_names": list(outputs)}
    with quiet_exporter():
        warnings.simplefilter("ignore")  # of the exporter, about networks that are not ours
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            **options,
        )
