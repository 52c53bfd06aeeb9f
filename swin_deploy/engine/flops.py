"""Floating-point operations of an ONNX graph: of its matrix products and convolutions.

A multiplication and an addition are two: Swin-T's "4.5 GFLOPs" in the literature are 9.0 here.
Softmax, norms, activations and additions count as zero; they are bound by memory.
"""

from __future__ import annotations

import math

import onnx

from swin_deploy.errors import InputError

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

    Raises:
        InputError: There is no rule for the operator, and zero would be wrong.
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
