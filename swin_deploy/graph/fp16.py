"""An FP32 graph -> the same in FP16, strongly typed: the dtypes in the file are the precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.artifacts.files import atomic_path
from swin_deploy.errors import InputError
from swin_deploy.graph.export import check_graph

FP16_MAX = 65504.0  # IEEE 754 binary16

# Every operator that the export form uses. For these, making all float tensors FP16 is the whole
# conversion: none has an attribute that names a float type, and LayerNormalization's stash_type
# keeps its mean and variance in FP32. Pad, which makes the slot of a ViT's class token, fills with
# its own zero or with a constant, converted like any weight. Another has to be looked at first.
KNOWN_OPERATORS = {
    *("Add", "Concat", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pad"),
    *("ReduceMean", "Reshape", "Shape", "Slice", "Softmax", "Squeeze", "Sub", "Transpose"),
    *("QuantizeLinear", "DequantizeLinear"),  # of FP16 by FP16 scales
}
# The lengths of vectors in cosine attention, and what is divided by them. A sum of squares
# overflows in FP16, and the smallest length, 1e-12, is zero there.
FP32_OPERATORS = {"Clip", "Div", "ReduceL2"}
# Their results may be beyond FP16: the factor of a padded key is about 1e12, and infinity times its
# zeros would be NaN. So they are cut off at the largest number that FP16 has.
UNBOUNDED_OPERATORS = {"Div"}


@dataclass(frozen=True, slots=True)
class Fp16Graph:
    """What the conversion found.

    Attributes:
        weights: Tensors that became FP16.
        largest: Largest magnitude among them.
        flushed: Share of the non-zero weights, 0 to 1, too small for FP16, which became zero.
    """

    weights: int
    largest: float
    flushed: float


def convert_to_fp16(source: Path, final: Path) -> Fp16Graph:
    """Write ``source`` in FP16 to ``final``; its input and outputs stay FP32, cast inside.

    Statistics of LayerNormalization are computed in FP32: the operator's own ``stash_type``.

    Args:
        source: An FP32 graph of ``KNOWN_OPERATORS``. Unchanged.
        final: Replaced only by a graph that passes the checker.

    Raises:
        InputError: A weight does not fit in FP16, or the graph has an operator with other rules.
    """
    model = ir.load(source)
    result = convert_model_to_fp16(model)
    with atomic_path(final) as scratch:
        ir.save(model, scratch)
        check_graph(scratch)
    return result


def convert_model_to_fp16(model: ir.Model) -> Fp16Graph:
    """``convert_to_fp16`` of a model in memory, in place."""
    graph = model.graph
    for node in graph:
        if node.op_type not in KNOWN_OPERATORS | FP32_OPERATORS or node.domain:
            raise InputError(f"{node.name}: no FP16 rule for {node.domain}::{node.op_type}")
        if node.op_type == "LayerNormalization":
            stash = node.attributes.get("stash_type")
            if stash is not None and stash.as_int() != DataType.FLOAT:
                raise InputError(f"{node.name}: its statistics are not in FP32")
        if any(value.dtype is None for value in node.outputs):
            raise InputError(f"{node.name}: its outputs have no type")
    result = _convert_weights(graph)
    for node in graph:
        for value in node.outputs:
            if value.dtype == DataType.FLOAT and node.op_type not in FP32_OPERATORS:
                value.dtype = DataType.FLOAT16
    _cast_inputs(graph)
    _cast_around_fp32(graph)
    _cast_outputs(graph)
    return result


def _convert_weights(graph: ir.Graph) -> Fp16Graph:
    largest, flushed, nonzero, count = 0.0, 0, 0, 0
    for name, value in list(graph.initializers.items()):
        if value.const_value is None or value.dtype != DataType.FLOAT:
            continue
        if all(node.op_type in FP32_OPERATORS for node, _ in value.uses()):
            continue
        tensor = value.const_value.numpy()
        peak = float(np.abs(tensor).max(initial=0))
        if not peak <= FP16_MAX:  # also catches NaN
            raise InputError(
                f"{name} holds {peak:g}, which FP16 cannot (its largest is {FP16_MAX:g})",
                "--precision fp32",
            )
        half = tensor.astype(np.float16)
        flushed += int(np.count_nonzero(tensor) - np.count_nonzero(half))
        nonzero += int(np.count_nonzero(tensor))
        value.const_value = ir.Tensor(half, name=name)
        value.dtype = DataType.FLOAT16
        largest, count = max(largest, peak), count + 1
    return Fp16Graph(count, largest, flushed / max(nonzero, 1))


def _cast_inputs(graph: ir.Graph) -> None:
    for image in graph.inputs:
        uses = tuple(image.uses())
        cast = ir.node("Cast", [image], {"to": int(DataType.FLOAT16)}, name=f"{image.name}/Cast")
        half = cast.outputs[0]
        half.name, half.shape, half.dtype = f"{image.name}.fp16", image.shape, DataType.FLOAT16
        graph.insert_before(graph[0], cast)
        for node, index in uses:
            node.replace_input_with(index, half)


def _cast_around_fp32(graph: ir.Graph) -> None:
    """Casts where a value goes from an FP16 operator to an FP32 one, or back."""
    values = [value for node in list(graph) for value in node.outputs]
    for value in [*values, *graph.initializers.values()]:
        for dtype, suffix in ((DataType.FLOAT, "fp32"), (DataType.FLOAT16, "fp16")):
            uses = [
                (node, index)
                for node, index in value.uses()
                if (node.op_type in FP32_OPERATORS) == (dtype == DataType.FLOAT)
            ]
            if not uses or value.dtype not in (DataType.FLOAT, DataType.FLOAT16):
                continue
            if value.dtype != dtype:
                cut = _cut_off(graph, value, uses[0][0]) if dtype == DataType.FLOAT16 else value
                cast = _cast(cut, dtype, suffix)
                graph.insert_before(uses[0][0], cast)
                for node, index in uses:
                    node.replace_input_with(index, cast.outputs[0])


def _cut_off(graph: ir.Graph, value: ir.Value, reader: ir.Node) -> ir.Value:
    """``value``, an FP32 one, within the range of FP16."""
    producer = value.producer()
    if producer is None or producer.op_type not in UNBOUNDED_OPERATORS:
        return value
    name = f"{value.name}.range"
    limits = [
        ir.Value(name=f"{name}.{side}", const_value=ir.tensor(np.float32(limit)))
        for side, limit in (("low", -FP16_MAX), ("high", FP16_MAX))
    ]
    for limit in limits:
        graph.register_initializer(limit)
    clip = ir.node("Clip", [value, *limits], name=f"{name}/Clip")
    result = clip.outputs[0]
    result.name, result.shape, result.dtype = name, value.shape, DataType.FLOAT
    graph.insert_before(reader, clip)
    return result


def _cast(value: ir.Value, dtype: DataType, suffix: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{value.name}/Cast.{suffix}")
    result = cast.outputs[0]
    result.name, result.shape, result.dtype = f"{value.name}.{suffix}", value.shape, dtype
    return cast


def _cast_outputs(graph: ir.Graph) -> None:
    for position, half in enumerate(graph.outputs):
        if half.dtype == DataType.FLOAT:
            continue
        name, shape = half.name, half.shape
        half.name = f"{name}.fp16"
        cast = ir.node("Cast", [half], {"to": int(DataType.FLOAT)}, name=f"{name}/Cast")
        cast.outputs[0].name, cast.outputs[0].shape = name, shape
        cast.outputs[0].dtype = DataType.FLOAT
        graph.append(cast)
        graph.outputs[position] = cast.outputs[0]
