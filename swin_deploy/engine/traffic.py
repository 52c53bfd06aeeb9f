"""What one inference of an ONNX graph costs as the graph stands: FLOPs, and bytes node by node.

No compiler is asked, so that the figures are the same on every machine. A runtime that fuses nodes
moves fewer bytes than these: what stays inside one of its kernels is counted here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from swin_deploy.engine.flops import count_flops, read_shapes
from swin_deploy.errors import InputError
from swin_deploy.foreign import reading
from swin_deploy.onnx_file import read_onnx

_RENAMES = {"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}  # other shape, same bytes
_PARTS = {"Gather", "GatherElements", "GatherND", "Slice", "Split"}  # read what they write


@dataclass(frozen=True, slots=True)
class GraphCost:
    """One inference.

    Attributes:
        nodes: That depend on the image.
        flops: Of matrix products and convolutions, two for a multiplication and an addition.
        activation_bytes: Read and written by all nodes: of each what depends on the image among
            its inputs, every tensor once, and all its outputs. Nodes that only change a shape
            move none; those that pick a part of a tensor read as much as they write.
        constant_bytes: Weights, position tables and masks, read by each node that has them.
    """

    nodes: int
    flops: int
    activation_bytes: int
    constant_bytes: int


def cost_graph(path: Path) -> GraphCost:
    """Count what the nodes of an ONNX file compute and move.

    Args:
        path: A graph all of whose sizes are static.

    Raises:
        InputError: It is no ONNX file, a size in it is dynamic or unknown, or it has an operator
            whose FLOPs cannot be counted.
    """
    model = read_onnx(path)
    with reading(path, "a valid ONNX model"):
        sizes = _tensor_bytes(model)
        shapes = read_shapes(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = flops = activation_bytes = constant_bytes = 0
    for node in model.graph.node:
        inputs = dict.fromkeys(name for name in node.input if name)
        if constants.issuperset(inputs):
            constants.update(node.output)
            continue
        nodes += 1
        own = count_flops(node, shapes)
        unknown = [name for name in (*inputs, *node.output) if name and sizes.get(name) is None]
        if own is None or unknown:
            raise InputError(
                f"{path}: {node.name} has a size that is dynamic or unknown: {', '.join(unknown)}",
                "export it for one batch size",
            )
        flops += own
        if node.op_type in _RENAMES:
            continue
        written = sum(sizes[name] or 0 for name in node.output if name)
        activations = [name for name in inputs if name not in constants]
        read = sum(sizes[name] or 0 for name in activations)
        activation_bytes += written + (written if node.op_type in _PARTS else read)
        constant_bytes += sum(sizes[name] or 0 for name in inputs if name in constants)
    return GraphCost(nodes, flops, activation_bytes, constant_bytes)


def _tensor_bytes(model: onnx.ModelProto) -> dict[str, int | None]:
    """Bytes of every tensor; None where a size of it is dynamic."""
    shapes = read_shapes(model)  # which empties the large weights, so that this copies little
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    sizes: dict[str, int | None] = {}
    for name, kind in types.items():
        dims = [None] if (found := shapes.get(name)) is None else found
        if kind and None not in dims:
            item = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
            sizes[name] = item * math.prod(size for size in dims if size is not None)
        else:
            sizes[name] = None
    return sizes
