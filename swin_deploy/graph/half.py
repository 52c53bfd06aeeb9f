"""An FP32 graph -> the same in FP16 or BF16, strongly typed: the dtypes in the file are all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.errors import InputError
from swin_deploy.graph.casts import cast_outputs, cast_where_types_meet
from swin_deploy.graph.export import rewrite
from swin_deploy.precisions import HalfPrecision

FP16_MAX = 65504.0  # IEEE 754 binary16

# Every operator that the export form uses. For these, making all float tensors half is the whole
# conversion: none has an attribute that names a float type, and LayerNormalization's stash_type
# keeps its mean and variance in FP32. Pad, which makes the slot of a ViT's class token, fills with
# its own zero or with a constant, converted like any weight. Another has to be looked at first.
KNOWN_OPERATORS = {
    *("Add", "Concat", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pad"),
    *("ReduceMean", "Reshape", "Shape", "Slice", "Softmax", "Squeeze", "Sub", "Transpose"),
    *("QuantizeLinear", "DequantizeLinear"),  # their scales become half as well
}
# The lengths of vectors in cosine attention, and what is divided by them. A sum of squares
# overflows in FP16, and the smallest length, 1e-12, is zero there.
FP32_OPERATORS = {"Clip", "Div", "ReduceL2"}
# Their results may be beyond FP16: the factor of a padded key is about 1e12, and infinity times its
# zeros would be NaN. So they are cut off at the largest number that FP16 has. BF16 has them all.
UNBOUNDED_OPERATORS = {"Div"}


@dataclass(frozen=True, slots=True)
class Half:
    """A type of 16 bits.

    Attributes:
        dtype: What graphs call it.
        numpy: What arrays call it.
        limit: Its largest number, where FP32 has larger ones that occur; None for BF16, whose
            exponent is that of FP32.
    """

    dtype: DataType
    numpy: np.dtype
    limit: float | None


HALVES: dict[HalfPrecision, Half] = {
    "fp16": Half(DataType.FLOAT16, np.dtype(np.float16), FP16_MAX),
    "bf16": Half(DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16), None),
}


@dataclass(frozen=True, slots=True)
class HalfGraph:
    """What the conversion found.

    Attributes:
        weights: Tensors that were converted.
        largest: Largest magnitude among them.
        flushed: Share of the non-zero weights, 0 to 1, too small for the type, which became zero.
    """

    weights: int
    largest: float
    flushed: float


def convert_to_half(
    source: Path, final: Path, precision: HalfPrecision, fp32_nodes: Collection[str] = ()
) -> HalfGraph:
    """Write ``source`` in half precision to ``final``; input and outputs stay FP32, cast inside.

    Statistics of LayerNormalization are computed in FP32: the operator's own ``stash_type``.

    Args:
        source: An FP32 graph of ``KNOWN_OPERATORS``. Unchanged.
        final: Replaced only by a graph that passes the checker.
        precision: Which type.
        fp32_nodes: Names of nodes that compute in FP32, with their own weights as they are.

    Raises:
        InputError: A weight does not fit in FP16, or the graph has an operator with other rules.
    """
    with rewrite(source, final) as model:
        result = convert_graph(model.graph, precision, fp32_nodes)
    return result


def convert_graph(
    graph: ir.Graph, precision: HalfPrecision, fp32_nodes: Collection[str] = ()
) -> HalfGraph:
    """``convert_to_half`` of a graph in memory, in place."""
    half = HALVES[precision]

    def is_full(node: ir.Node) -> bool:
        return node.op_type in FP32_OPERATORS or node.name in fp32_nodes

    def limit_of(node: ir.Node) -> float | None:
        return half.limit if node.op_type in UNBOUNDED_OPERATORS else None

    for node in graph:
        _require_rule(node, precision)
    result = _convert_weights(graph, half, precision, {n for n in graph if is_full(n)})
    for node in graph:
        for value in node.outputs:
            if value.dtype == DataType.FLOAT and not is_full(node):
                value.dtype = half.dtype
    cast_where_types_meet(graph, half.dtype, precision, is_full, limit_of)
    cast_outputs(graph, precision)
    return result


def _require_rule(node: ir.Node, precision: HalfPrecision) -> None:
    if node.op_type not in KNOWN_OPERATORS | FP32_OPERATORS or node.domain:
        raise InputError(
            f"{node.name}: no {precision.upper()} rule for {node.domain}::{node.op_type}"
        )
    if node.op_type == "LayerNormalization":
        stash = node.attributes.get("stash_type")
        if stash is not None and stash.as_int() != DataType.FLOAT:
            raise InputError(f"{node.name}: its statistics are not in FP32")
    if any(value.dtype is None for value in node.outputs):
        raise InputError(f"{node.name}: its outputs have no type")


def _convert_weights(
    graph: ir.Graph, half: Half, precision: HalfPrecision, full: set[ir.Node]
) -> HalfGraph:
    largest, flushed, nonzero, count = 0.0, 0, 0, 0
    for name, value in graph.initializers.items():
        if value.const_value is None or value.dtype != DataType.FLOAT:
            continue
        readers = [node for node, _ in value.uses() if node not in full]
        if not readers:
            continue
        tensor = value.const_value.numpy()
        peak = float(np.abs(tensor).max(initial=0))
        if not peak <= (half.limit or np.finfo(np.float32).max):  # also catches NaN
            raise InputError(
                f"{name} holds {peak:g}, which {precision.upper()} cannot"
                + (f" (its largest is {half.limit:g})" if half.limit else ""),
                f"--fp32-nodes {readers[0].name}, or --precision fp32",
            )
        converted = tensor.astype(half.numpy)
        flushed += int(np.count_nonzero(tensor) - np.count_nonzero(converted))
        nonzero += int(np.count_nonzero(tensor))
        value.const_value = ir.Tensor(converted, dtype=half.dtype, name=name)
        value.dtype = half.dtype
        largest, count = max(largest, peak), count + 1
    return HalfGraph(count, largest, flushed / max(nonzero, 1))
