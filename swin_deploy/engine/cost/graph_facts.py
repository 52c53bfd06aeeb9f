"""What an ONNX graph costs as it stands: modules, FLOPs and bytes, node by node.

A multiplication and an addition are two: Swin-T's "4.5 GFLOPs" in the literature are 9.0 here.
Softmax, norms, activations and additions count as zero; they are bound by memory.

No compiler is asked, so that the figures are the same on every machine. A runtime that fuses nodes
moves fewer bytes than these: what stays inside one of its kernels is counted here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import onnx

from swin_deploy.core.errors import InputError
from swin_deploy.core.onnx_file import SCOPES, module_in, read_onnx
from swin_deploy.core.records import reading
from swin_deploy.network.interface import PROBABILITIES, BatchRange

Shapes = dict[str, list[int | None] | None]  # None for a dynamic size, or an unknown shape
PRODUCTS = {"Attention", "Conv", "ConvTranspose", "Gemm", "MatMul"}
_UNCOUNTED = {
    *("ConvInteger", "DeformConv", "Einsum", "GRU", "LSTM", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul", "RNN"),
}
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
_LARGE_BYTES = 1 << 16


def read_shapes(model: onnx.ModelProto) -> Shapes:
    """The shapes of all values, inferred.

    Args:
        model: Loses the content of its large weights, which no shape depends on.

    Raises:
        onnx.shape_inference.InferenceError: The graph contradicts itself.
    """
    shapes: Shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS and len(tensor.raw_data) > _LARGE_BYTES:
            tensor.ClearField("raw_data")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            known = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            shapes[value.name] = known
    return shapes


def count_flops(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """FLOPs of one node; None where a size is dynamic.

    2 M N K of every matrix product, batched or not; of a convolution 2 for each element of the
    output and of the kernel that makes it; of ``Attention`` both of its products.
    """
    if node.op_type in _UNCOUNTED:
        raise InputError(f"{node.name}: no rule for the FLOPs of {node.op_type}")
    if node.op_type not in PRODUCTS:
        return 0
    first, second = (_size(shapes, name) for name in node.input[:2])
    result = _size(shapes, node.output[0])
    if first is None or second is None or result is None:
        return None
    match node.op_type:
        case "MatMul":
            return 2 * math.prod(result) * first[-1]
        case "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            return 2 * math.prod(result) * first[0 if transposed else 1]
        case "Conv":
            return 2 * math.prod(result) * math.prod(second[1:])
        case "ConvTranspose":
            return 2 * math.prod(first) * math.prod(second[1:])
        case _:  # Attention: every query meets every key, every weight every value
            return 2 * second[-2] * (math.prod(first) + math.prod(result))


def _size(shapes: Shapes, name: str) -> list[int] | None:
    dims = shapes.get(name)
    if dims is None or None in dims:
        return None
    return [size for size in dims if size is not None]


_MOVES = {"Concat", "Gather", "GatherND", "Pad", "ScatterND", "Slice", "Split", "Transpose"}
_SHAPES = {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"}
_NORMS = {"BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the graph.

    Attributes:
        name: As the compiler's metadata has it.
        module: Dotted path of the module that it came from; "" for the network itself.
        role: "product" of two activations, "linear" with a weight, "softmax", "norm", "bias" of a
            linear layer, "scale" by a number, "move" of data, "shape" without any, or "math".
        flops: None where the batch is dynamic.
        constant: Whether it depends on constants alone: most of these the compiler computes itself.
    """

    name: str
    module: str
    role: str
    flops: int | None = 0
    constant: bool = False


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """A graph.

    Attributes:
        nodes: By name, in the order in which they run.
        attentions: How many attentions it has.
    """

    nodes: dict[str, GraphNode]
    attentions: int


def read_graph(path: Path) -> GraphFacts:
    """Read an ONNX file."""
    model = read_onnx(path)
    with reading(path, "a valid ONNX model"):
        shapes = read_shapes(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes: dict[str, GraphNode] = {}
    for node in model.graph.node:
        constant = all(name in constants for name in node.input if name)
        if constant:
            constants.update(node.output)
        name = node.name or f"node_of_{node.output[0]}"  # as TensorRT's parser names it
        flops = count_flops(node, shapes)
        if name in nodes:
            other = nodes[name].flops
            flops = None if flops is None or other is None else flops + other
        role = "math" if constant else _role(node, constants, shapes)
        nodes[name] = GraphNode(name, _module(node), role, flops, constant)
    return GraphFacts(
        nodes=nodes,
        attentions=sum(
            node.op_type in ("Softmax", "Attention") and PROBABILITIES not in node.output
            for node in model.graph.node
        ),
    )


def profile_of(path: Path, dynamic: BatchRange) -> BatchRange:
    """The batch sizes to compile a valid ONNX file for.

    Args:
        path: The file.
        dynamic: What to take where its batch is dynamic.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inputs}
    if all(all(dims) for dims in shapes.values()):
        size = next(iter(shapes.values()), [1])[0]
        return BatchRange(low=size, high=size)
    if len(shapes) > 1 or not all(next(iter(shapes.values()))[1:]):
        raise InputError(
            f"{path} has dynamic axes beside the batch of one image: {shapes} (0 is dynamic)",
            "export it for one image size",
        )
    return dynamic


def module_of(name: str) -> str:
    """The module that the name of a node tells.

    Ours are like ``layers.0.attn/MatMul``, those of TorchScript ``/layers/layers.0/attn/MatMul``.
    """
    path = name.strip("/").rpartition("/")[0].replace("/", ".")
    return re.sub(r"\b(\w+)\.(?=\1\.\d)", "", path)


def _module(node: onnx.NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            with reading(f"{SCOPES} of {node.name}", "a list of names"):
                return module_in(entry.value)
    return module_of(node.name)


def _role(node: onnx.NodeProto, constants: set[str], shapes: Shapes) -> str:
    operator = node.op_type
    weights = [name for name in node.input if name in constants]
    if operator in PRODUCTS:
        return "linear" if any(name in constants for name in node.input[:2]) else "product"
    if operator == "Add" and any(len(shapes.get(name) or ()) == 1 for name in weights):
        return "bias"
    if operator in ("Mul", "Div") and any(shapes.get(name) in ([], [1]) for name in weights):
        return "scale"
    for role, operators in (("move", _MOVES), ("shape", _SHAPES), ("norm", _NORMS)):
        if operator in operators:
            return role
    return "softmax" if operator == "Softmax" else "math"


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
