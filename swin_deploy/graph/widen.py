"""A graph in half precision -> one that gives its numbers on any runtime, every result rounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.files import sha256
from swin_deploy.graph.export import rewrite
from swin_deploy.narrow import present

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
        cast = ir.node("Cast", [value], {"to": int(half)}, name=f"{name}/round")
        rounded = cast.outputs[0]
        rounded.dtype, rounded.shape = half, value.shape
        graph.insert_after(node, cast)
        if value.is_graph_output():
            graph.outputs[graph.outputs.index(value)] = rounded
            rounded.name, value.name = name, f"{name}.exact"
        else:
            rounded.name = f"{name}.rounded"
        value.dtype = DataType.FLOAT
        _widen(graph, rounded, uses, cast)


def _widen(
    graph: ir.Graph, value: ir.Value, uses: Sequence[tuple[ir.Node, int]], after: ir.Node | None
) -> None:
    """Have ``uses`` read ``value``, a half one, as FP32."""
    if not uses:
        return
    cast = ir.node("Cast", [value], {"to": int(DataType.FLOAT)}, name=f"{value.name}/widen")
    wide = cast.outputs[0]
    wide.name, wide.dtype, wide.shape = f"{value.name}.wide", DataType.FLOAT, value.shape
    if after is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(after, cast)
    for reader, index in uses:
        reader.replace_input_with(index, wide)
