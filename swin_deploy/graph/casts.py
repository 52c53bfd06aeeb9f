"""Casts where FP32 meets half precision; and half precision in FP32, every result rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.core.errors import present
from swin_deploy.core.files import sha256
from swin_deploy.graph.export import rewrite
from swin_deploy.graph.int8.places import module_of


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
        name, half.name = half.name, f"{half.name}.{suffix}"
        cast = cast_node(half, DataType.FLOAT, name, f"{name}/Cast")
        graph.append(cast)
        graph.outputs[position] = cast.outputs[0]


def cast_node(value: ir.Value, to: DataType, result: str | None, name: str) -> ir.Node:
    """A Cast that is called ``name``, and whose result is ``result``; it is in no graph yet."""
    cast = ir.node("Cast", [value], {"to": int(to)}, name=name)
    made = cast.outputs[0]
    made.name, made.dtype, made.shape = result, to, value.shape
    return cast


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
    name = _name_after(value, f"Cast.{suffix}")
    cast = cast_node(value, to, f"{value.name}.{suffix}", name)
    _insert_after(graph, value, cast)
    return cast.outputs[0]


def _name_after(value: ir.Value, what: str) -> str:
    """The name of a node that reads ``value``: in the module that made it, if one did."""
    producer = value.producer()
    module = "" if producer is None else module_of(producer)
    return f"{module}/{what}.{value.name}" if module else f"{value.name}/{what}"


def _insert_after(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    if (producer := value.producer()) is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)


_HALVES = (DataType.FLOAT16, DataType.BFLOAT16)
# They only move numbers, which are rounded already.
_MOVES = {"Concat", "Gather", "Reshape", "Slice", "Squeeze", "Transpose"}


class ComputeInFp32AndRound(ir.passes.InPlacePass):
    """Compute in FP32 what is FP16 or BF16, and round every result as the types of the file say.

    Before:  float16 y = MatMul(x, w)
    After:   float t = MatMul(x, w)   float16 r = Cast(t)   float y = Cast(r)

    ONNX Runtime has no BF16 kernels for CPUs, and few for FP16: between two that are missing it
    hands FP32 on, unrounded, and values beyond FP16 pass unseen. A compiler that fuses rounds
    less often than this graph. Weights keep their numbers, inputs and outputs their types.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for name, weight in graph.initializers.items():
            if weight.dtype in _HALVES and weight.const_value is not None:
                wide = weight.const_value.numpy().astype(np.float32)
                weight.const_value, weight.dtype = ir.tensor(wide, name=name), DataType.FLOAT
                modified = True
        for value in graph.inputs:
            if value.dtype in _HALVES and not _only_widened(value):
                _widen(graph, value, tuple(value.uses()), None)
                modified = True
        for node in list(graph):
            for value in node.outputs:
                if value.dtype in _HALVES and not (node.op_type == "Cast" and _only_widened(value)):
                    _round(graph, node, value)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def round_every_result(source: Path, final: Path) -> None:
    """Write ``source``, a graph in half precision, to ``final`` as ``ComputeInFp32AndRound``."""
    with rewrite(source, final) as model:
        ComputeInFp32AndRound()(model)


def as_computed(graph: Path, scratch: Path) -> Path:
    """A graph as ONNX Runtime computes what the types of the file say: itself, or the rounded one.

    Args:
        graph: In any precision.
        scratch: A folder for the rounded graph, which is written once.
    """
    weights = onnx.load(graph, load_external_data=False).graph.initializer
    if not any(DataType(weight.data_type) in _HALVES for weight in weights):
        return graph
    rounding = scratch / f"{graph.stem}.{sha256(graph)}.rounding.onnx"
    if not rounding.exists():
        round_every_result(graph, rounding)
    return rounding


def _only_widened(value: ir.Value) -> bool:
    return all(node.op_type == "Cast" for node, _ in value.uses())


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    half = present(value.dtype)
    uses = tuple(value.uses())
    if node.op_type == "Cast":
        _widen(graph, value, uses, node)
    elif node.op_type in _MOVES and not value.is_graph_output():
        value.dtype = DataType.FLOAT
    else:
        name = value.name
        cast = cast_node(value, half, f"{name}.rounded", f"{name}/round")
        rounded = cast.outputs[0]
        graph.insert_after(node, cast)
        if value.is_graph_output():
            graph.outputs[graph.outputs.index(value)] = rounded
            rounded.name, value.name = name, f"{name}.exact"
        value.dtype = DataType.FLOAT
        _widen(graph, rounded, uses, cast)


def _widen(
    graph: ir.Graph, value: ir.Value, uses: Sequence[tuple[ir.Node, int]], after: ir.Node | None
) -> None:
    """Have ``uses`` read ``value``, a half one, as FP32."""
    if not uses:
        return
    cast = cast_node(value, DataType.FLOAT, f"{value.name}.wide", f"{value.name}/widen")
    if after is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(after, cast)
    for reader, index in uses:
        reader.replace_input_with(index, cast.outputs[0])
