"""An FP32 graph -> FP16 or BF16, strongly typed; and which nodes are too large for FP16."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.core.errors import InputError
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.casts import cast_outputs, cast_where_types_meet
from swin_deploy.graph.export import rewrite
from swin_deploy.graph.int8.places import matching
from swin_deploy.network.interface import HalfPrecision
from swin_deploy.network.judge import FloatArray

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


LIMIT = FP16_MAX / 4  # room for images with values four times as large as those that were seen
_PEAK = ".peak"
_FP32_MAX = float(np.finfo(np.float32).max)


def find_large(source: Path, images: Iterable[FloatArray]) -> dict[str, float]:
    """The nodes that have to stay in FP32: those that give, or read, a value beyond ``LIMIT``.

    A node that reads such a value is one of them because FP16 could not hold what it reads. Values
    of ``FP32_OPERATORS`` do not count: they are FP32 anyway, and cut off on their way to FP16.

    Args:
        source: An FP32 graph.
        images: Normalised, (b, channels, H, W) float32 each, at least one.

    Returns:
        Name -> the largest magnitude among what it gives and reads, in the order of the graph.
    """
    peaks = measure_peaks(source, images)
    found: dict[str, float] = {}
    for node in ir.load(source).graph:
        names = [value.name for value in (*node.inputs, *node.outputs) if value is not None]
        largest = max((peaks.get(name or "", 0.0) for name in names), default=0.0)
        if largest >= LIMIT and node.op_type not in FP32_OPERATORS:
            found[node.name or ""] = largest
    return found


def measure_peaks(source: Path, images: Iterable[FloatArray]) -> dict[str, float]:
    """The largest magnitude of every float value that FP16 would have to hold.

    The graph computes them itself, one number per value, each right behind the value and in an
    order that frees it, so that nothing large has to be kept.

    Args:
        source: An FP32 graph.
        images: As ``find_large`` takes them.

    Returns:
        Name of the value -> its peak over all images; the largest FP32 number where it is NaN.
    """
    model = ir.load(source)
    measured = _add_peaks(model.graph)
    peaks = dict.fromkeys(measured, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peaks.onnx"
        ir.save(model, path)
        with OnnxRuntimeRunner(path, sparing=True) as runner:
            for batch in images:
                outputs = run_all(runner, batch)
                for name in measured:
                    peak = np.nan_to_num(outputs[name + _PEAK], nan=_FP32_MAX, posinf=_FP32_MAX)
                    peaks[name] = max(peaks[name], float(peak.max()))
    return peaks


def _add_peaks(graph: ir.Graph) -> list[str]:
    one = ir.Value(name=f"shape{_PEAK}", const_value=ir.tensor(np.array([1], dtype=np.int64)))
    graph.register_initializer(one)
    measured = []
    for node in list(graph):
        if node.op_type in FP32_OPERATORS:
            continue
        for value in node.outputs:
            if value.dtype != DataType.FLOAT or (not value.uses() and not value.is_graph_output()):
                continue
            name = value.name or ""
            size = ir.node("Abs", [value], name=f"{name}/Abs{_PEAK}")
            peak = ir.node("ReduceMax", size.outputs, {"keepdims": 0}, name=f"{name}/Max{_PEAK}")
            row = ir.node("Reshape", [peak.outputs[0], one], name=f"{name}/Reshape{_PEAK}")
            row.outputs[0].name, row.outputs[0].dtype = name + _PEAK, DataType.FLOAT
            row.outputs[0].shape = ir.Shape([1])
            graph.insert_after(node, [size, peak, row])
            graph.outputs.append(row.outputs[0])
            measured.append(name)
    return measured


def match_nodes(source: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the nodes of a graph that any pattern fits, in the order of the graph.

    Args:
        source: The graph.
        patterns: Names, or patterns with ``*``, ``?`` and ``[...]``.
    """
    names = [node.name or "" for node in ir.load(source).graph] if patterns else []
    fit = matching(names, patterns, f"node of {source.name}", "--fp32-nodes {}")
    return tuple(name for name in names if name in fit)
