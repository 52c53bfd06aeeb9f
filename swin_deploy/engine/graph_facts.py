"""What ``cost`` needs of an ONNX graph: every node's module, its part in the network, its FLOPs."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import onnx

from swin_deploy.batches import BatchRange
from swin_deploy.engine.flops import PRODUCTS, Shapes, count_flops, read_shapes
from swin_deploy.errors import InputError
from swin_deploy.foreign import reading
from swin_deploy.interface import PROBABILITIES
from swin_deploy.onnx_file import read_onnx

_SCOPES = "pkg.torch.onnx.name_scopes"  # what torch.onnx.export(dynamo=True) leaves in every node
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
    """Read an ONNX file.

    Raises:
        InputError: It is none, or has an operator whose FLOPs cannot be counted.
    """
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

    Raises:
        InputError: Something else of it is dynamic.
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
        if entry.key == _SCOPES:
            with reading(f"{_SCOPES} of {node.name}", "a list of names"):
                scopes = ast.literal_eval(entry.value)  # outermost module first, operation last
                return str(scopes[-2]) if len(scopes) > 1 else ""
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
