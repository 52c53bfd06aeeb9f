"""Proof that a graph of another precision is the FP32 graph, rounded: node by node, exactly.

The floor of a coarse type is low: BF16 keeps 8 bits, so a right graph is about as far from FP32 as
one with a small mistake. This comparison has no floor. What it leaves open is rounding alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from swin_deploy.errors import VerificationError
from swin_deploy.graph.half import HALVES
from swin_deploy.precisions import HalfPrecision

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
Node = tuple[str, str, tuple[str, ...], tuple[bytes, ...]]


def require_converted(
    full: Path, half: Path, precision: HalfPrecision | None, quantised: bool = False
) -> None:
    """Check that ``half`` is ``full`` with casts, and with weights that are rounded or the same.

    Args:
        full: FP32.
        half: What was made from it.
        precision: Of ``half``, or of what is not quantised in it; None for FP32.
        quantised: Whether it may have pairs of QuantizeLinear and DequantizeLinear, and integer
            weights within half a step of the FP32 ones.

    Raises:
        VerificationError: A node, an edge, an attribute, a weight or an output differs; names it.
    """
    old, new = onnx.load(full).graph, onnx.load(half).graph
    known = {node.name for node in old.node}
    limit = None if precision is None else HALVES[precision].limit
    expected, found = _Reading(old, known, None), _Reading(new, known, limit, quantised)
    problem = expected.difference(found) or _weight_problem(old, new, found, precision)
    if problem:
        kind = "INT8" if quantised else str(precision).upper()
        raise VerificationError(f"{half.name} is not {full.name} in {kind}: {problem}")


class _Reading:
    """A graph without the casts between float types and without what cuts values off.

    Args:
        graph: To read.
        known: Names of the nodes of the FP32 graph, which are read whatever they are.
        limit: The only number at which a node of another name may cut off; None for no such node.
        quantised: Read on through QuantizeLinear and DequantizeLinear.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        known: set[str],
        limit: float | None,
        quantised: bool = False,
    ) -> None:
        weights = {tensor.name: tensor for tensor in graph.initializer}
        origin = {name: name for name in ("", *(v.name for v in graph.input), *weights)}
        self.nodes: list[Node] = []
        self.limits: set[str] = set()
        self.zeros: set[str] = set()
        self.steps: dict[str, tuple[str, str, int]] = {}  # weight -> its integers, scale and axis
        for node in graph.node:
            if _is_float_cast(node):
                origin[node.output[0]] = origin[node.input[0]]
                continue
            if quantised and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                origin[node.output[0]] = self._behind(node, weights, origin)
                continue
            if node.op_type == "Clip" and node.name not in known and limit is not None:
                bounds = [float(numpy_helper.to_array(weights[name])) for name in node.input[1:]]
                if bounds == [-limit, limit]:
                    self.limits.update(node.input[1:])
                    origin[node.output[0]] = origin[node.input[0]]
                    continue
            for index, name in enumerate(node.output):
                origin[name] = f"{len(self.nodes)}#{index}"
            attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
            inputs = tuple(origin[name] for name in node.input)
            kind = f"{node.domain}::{node.op_type}"
            self.nodes.append((node.name, kind, inputs, tuple(attributes)))
        self.outputs = [(value.name, origin[value.name]) for value in graph.output]

    def _behind(
        self, node: onnx.NodeProto, weights: dict[str, TensorProto], origin: dict[str, str]
    ) -> str:
        """What a node of a pair hands on: a value, or the weight that integers stand for."""
        self.limits.update(name for name in node.input[1:] if name in weights)
        self.zeros.update(node.input[2:])
        integers = node.input[0]
        if integers not in weights:
            return origin[integers]
        name = str(integers).rpartition(".")[0]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        self.steps[name] = (integers, node.input[1], axis)
        self.limits.add(integers)
        return name

    def difference(self, other: _Reading) -> str:
        """The first thing that differs; "" if nothing does."""
        if len(self.nodes) != len(other.nodes):
            return f"{len(other.nodes)} nodes besides casts, expected {len(self.nodes)}"
        for mine, theirs in zip(self.nodes, other.nodes, strict=True):
            parts = ("name", "operator", "inputs", "attributes")
            for part, expected, found in zip(parts, mine, theirs, strict=True):
                if expected != found:
                    return f"{mine[0]} has another {part}: {found!r}, expected {expected!r}"
        if self.outputs != other.outputs:
            return f"outputs {other.outputs}, expected {self.outputs}"
        return ""


def _is_float_cast(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i in _FLOATS


def _weight_problem(
    full: onnx.GraphProto, half: onnx.GraphProto, read: _Reading, precision: HalfPrecision | None
) -> str:
    weights = {tensor.name: tensor for tensor in full.initializer}
    converted = {t.name: t for t in half.initializer}
    missing = (converted.keys() - read.limits | read.steps.keys()) ^ weights.keys()
    if missing:
        return f"weights that only one has: {sorted(missing)}"
    for name in sorted(read.zeros):
        if name not in converted or numpy_helper.to_array(converted[name]).any():
            return f"{name} is another zero point than zero"
    for name, tensor in weights.items():
        expected = numpy_helper.to_array(tensor)
        if name in read.steps:
            integers, scale, axis = read.steps[name]
            whole, steps = (numpy_helper.to_array(converted[key]) for key in (integers, scale))
            if not _within_half_a_step(expected, whole, steps, axis):
                return f"{name} is not the weight to half a step"
            continue
        found = numpy_helper.to_array(converted[name])
        if found.dtype != expected.dtype and precision is not None:
            expected = expected.astype(HALVES[precision].numpy)
        if found.dtype != expected.dtype or not np.array_equal(found, expected):
            return f"{name} is not the rounded weight"
    return ""


def _within_half_a_step(
    weight: NDArray[Any], integers: NDArray[Any], scale: NDArray[Any], axis: int
) -> bool:
    steps = scale.astype(np.float64)
    if steps.ndim:
        steps = np.expand_dims(steps, [i for i in range(weight.ndim) if i != axis])
    error = np.abs(integers * steps - weight)
    return bool((error <= steps * (0.5 + 1e-3)).all())  # scales were divided by in FP32
