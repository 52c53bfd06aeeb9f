"""Casts between the FP32 and the half-precision nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType


def cast_where_types_meet(
    graph: ir.Graph,
    half: DataType,
    suffix: str,
    is_full: Callable[[ir.Node], bool],
    limit_of: Callable[[ir.Node], float | None],
) -> None:
    """Cast every float value that a node of the other type reads, once per type.

    Args:
        graph: Its values have the types that their nodes shall give them.
        half: FLOAT16 or BFLOAT16.
        suffix: What ``half`` is called in names.
        is_full: Whether a node reads FP32; others read ``half``.
        limit_of: The magnitude at which the results of an FP32 node are cut off before they become
            ``half``; None where they fit.
    """
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph for value in node.outputs]
    readers = {node: is_full(node) for node in graph}
    for value in values:
        if value.dtype not in (DataType.FLOAT, half):
            continue
        to = half if value.dtype == DataType.FLOAT else DataType.FLOAT
        uses = [use for use in value.uses() if readers[use.node] == (to == DataType.FLOAT)]
        if not uses:
            continue
        producer = value.producer()
        limit = limit_of(producer) if producer is not None and to == half else None
        inside = value if limit is None else _cut_off(graph, value, limit)
        result = _cast(graph, inside, to, suffix if to == half else "fp32")
        for node, index in uses:
            node.replace_input_with(index, result)


def cast_outputs(graph: ir.Graph, suffix: str) -> None:
    """Make the outputs of the graph FP32, under the names that they have.

    Args:
        graph: Some of whose outputs may be half.
        suffix: What the half is called in names.
    """
    for position, half in enumerate(graph.outputs):
        if half.dtype == DataType.FLOAT:
            continue
        name, shape = half.name, half.shape
        half.name = f"{name}.{suffix}"
        cast = ir.node("Cast", [half], {"to": int(DataType.FLOAT)}, name=f"{name}/Cast")
        cast.outputs[0].name, cast.outputs[0].shape = name, shape
        cast.outputs[0].dtype = DataType.FLOAT
        graph.append(cast)
        graph.outputs[position] = cast.outputs[0]


def _cut_off(graph: ir.Graph, value: ir.Value, limit: float) -> ir.Value:
    """``value``, an FP32 one, between ``-limit`` and ``limit``."""
    name = f"{value.name}.range"
    limits = [
        ir.Value(name=f"{name}.{side}", const_value=ir.tensor(np.float32(number)))
        for side, number in (("low", -limit), ("high", limit))
    ]
    for number in limits:
        graph.register_initializer(number)
    clip = ir.node("Clip", [value, *limits], name=_name_after(value, "Clip"))
    clip.outputs[0].name, clip.outputs[0].shape = name, value.shape
    clip.outputs[0].dtype = DataType.FLOAT
    _insert_after(graph, value, clip)
    return clip.outputs[0]


def _cast(graph: ir.Graph, value: ir.Value, to: DataType, suffix: str) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": int(to)}, name=_name_after(value, f"Cast.{suffix}"))
    result = cast.outputs[0]
    result.name, result.shape, result.dtype = f"{value.name}.{suffix}", value.shape, to
    _insert_after(graph, value, cast)
    return result


def _name_after(value: ir.Value, what: str) -> str:
    """The name of a node that reads ``value``: in the module that made it, if one did."""
    producer = value.producer()
    module = "" if producer is None else (producer.name or "").rpartition("/")[0]
    return f"{module}/{what}.{value.name}" if module else f"{value.name}/{what}"


def _insert_after(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    if (producer := value.producer()) is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
