"""Whether two graphs are one network with different weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from swin_deploy.errors import InputError

_SHOWN = 3
_WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8}


def require_same_network(old: Path, new: Path) -> None:
    """Check that ``new`` is ``old`` but for the values of its weights.

    Nodes with their names, operators, edges and attributes, the names, shapes and dtypes of the
    weights, the inputs and the outputs have to be equal; so have integers, which are shapes and
    indices and no weights.

    Raises:
        InputError: They differ; names the first differences.
    """
    expected, found = _describe(onnx.load(old).graph), _describe(onnx.load(new).graph)
    differences = [
        f"{expected.get(key, 'nothing')} became {found.get(key, 'nothing')}"
        for key in expected | found
        if expected.get(key) != found.get(key)
    ]
    if differences:
        rest = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise InputError(
            f"the new weights make another graph than that of {old}: "
            f"{'; '.join(differences[:_SHOWN])}{rest}",
            "swin-deploy export, which compiles an engine for it",
        )


def _describe(graph: onnx.GraphProto) -> dict[tuple[str, str], str]:
    """A line for each thing that has to be equal, by what it is and its place or name."""
    lines = {("input", str(i)): f"input {_value(v)}" for i, v in enumerate(graph.input)}
    lines |= {("output", str(i)): f"output {_value(v)}" for i, v in enumerate(graph.output)}
    for index, node in enumerate(graph.node):
        edges = f"({', '.join(node.input)}) -> ({', '.join(node.output)})"
        attributes = sorted(str(onnx.helper.printable_attribute(a)) for a in node.attribute)
        line = f"{node.op_type} {node.name} {edges} {' '.join(attributes)}"
        lines["node", str(index)] = line.rstrip()
    for tensor in graph.initializer:
        line = f"weight {tensor.name} {TensorProto.DataType.Name(tensor.data_type)}"
        line += str(list(tensor.dims))
        if tensor.data_type in _WHOLE:
            line += f" {onnx.numpy_helper.to_array(tensor).tolist()}"
        lines["weight", str(tensor.name)] = line
    return lines


def _value(value: Any) -> str:
    tensor = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
    return f"{value.name} {TensorProto.DataType.Name(tensor.elem_type)}{shape}"
