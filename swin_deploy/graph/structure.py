"""Proof that a graph of another precision is the FP32 graph, rounded: node by node, exactly.

The floor of a coarse type is low: BF16 keeps 8 bits, so a right graph is about as far from FP32 as
one with a small mistake. This comparison has no floor. What it leaves open is rounding alone: all
scales of INT8 are worked out again, those of activations from what calibration has counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from swin_deploy.core.errors import InputError, VerificationError
from swin_deploy.graph.half import HALVES
from swin_deploy.graph.int8.thresholds import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.network.interface import HalfPrecision

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_PAIR = ("QuantizeLinear", "DequantizeLinear")
Node = tuple[str, str, tuple[str, ...], tuple[bytes, ...]]


def require_converted(
    full: Path,
    half: Path,
    precision: HalfPrecision | None,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Check that ``half`` is ``full`` with casts, and with weights that are rounded or the same.

    Args:
        full: FP32.
        half: What was made from it.
        precision: Of ``half``, or of what is not quantised in it; None for FP32.
        scales: Name of an activation of ``full`` -> the scale that it is quantised with, if it is.
            None where nothing may be. The scales of weights follow from these.
    """
    old, new = onnx.load(full).graph, onnx.load(half).graph
    known = {node.name for node in old.node}
    limit = None if precision is None else HALVES[precision].limit
    expected, found = _Reading(old, known, None), _Reading(new, known, limit, scales is not None)
    problem = found.problem or expected.difference(found)
    if not problem and scales is not None:
        problem = _scale_problem(expected, found, scales)
    if problem := problem or _weight_problem(old, new, found, precision):
        kind = str(precision).upper() if scales is None else "INT8"
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
        self.problem = ""  # of the first pair that is none
        # weight -> integers, scale and axis of every node that it is handed on by
        self.steps: dict[str, list[tuple[str, str, int]]] = {}
        self.pairs: list[tuple[str, str]] = []  # what is quantised, and the name of its scale
        self.scaled: dict[str, str] = {}  # what a pair hands on -> the name of its scale
        self.weights, self.graph, self.origin = weights, graph, origin
        for node in graph.node:
            if node.op_type == "Cast" and node.attribute[0].i in _FLOATS:
                origin[node.output[0]] = origin[node.input[0]]
                continue
            if quantised and node.op_type in _PAIR and not node.domain:
                self.problem = self.problem or _pair_problem(node, weights)
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
        integers = node.input[0]
        self.scaled[node.output[0]] = node.input[1]
        if integers not in weights:
            self.pairs.append((origin[integers], node.input[1]))
            return origin[integers]
        name = str(integers).rpartition(".")[0]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        self.steps.setdefault(name, []).append((integers, node.input[1], axis))
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


def _pair_problem(node: onnx.NodeProto, weights: Mapping[str, TensorProto]) -> str:
    """Why a node does more, or less, than to round to INT8 or to scale integers; "" if it does not.

    The zero point is what says the type: of uint8, or left out, it cuts off all that is negative.
    """
    if other := {attribute.name for attribute in node.attribute} - {"axis"}:
        return f"{node.name} has the attribute {min(other)}"
    stored = weights.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    kind = TensorProto.INT8 if stored is None else stored.data_type
    if kind not in (TensorProto.INT8, TensorProto.INT32):
        return f"{node.input[0]} is {TensorProto.DataType.Name(kind)}, and neither INT8 nor INT32"
    if stored is not None and len(node.input) == 2:  # integers of a file have their own type
        return ""
    zero = weights.get(node.input[2]) if len(node.input) == 3 else None
    if zero is None or zero.data_type != kind or numpy_helper.to_array(zero).any():
        found = (
            "none" if zero is None else f"{zero.name}, {TensorProto.DataType.Name(zero.data_type)}"
        )
        wanted = TensorProto.DataType.Name(kind)
        return f"{node.name} has another zero point than 0 in {wanted}: {found}"
    return ""


def _weight_problem(
    full: onnx.GraphProto, half: onnx.GraphProto, read: _Reading, precision: HalfPrecision | None
) -> str:
    weights = {tensor.name: tensor for tensor in full.initializer}
    converted = {t.name: t for t in half.initializer}
    missing = (converted.keys() - read.limits | read.steps.keys()) ^ weights.keys()
    if missing:
        return f"weights that only one has: {sorted(missing)}"
    biases = _biases(read)
    for name, tensor in weights.items():
        expected = numpy_helper.to_array(tensor)
        for integers, scale, axis in read.steps.get(name, ()):
            whole, steps = (numpy_helper.to_array(converted[key]) for key in (integers, scale))
            if not _within_half_a_step(expected, whole, steps, axis):
                return f"{name} is not the weight to half a step"
            if whole.dtype == np.int32 and name not in biases:  # in finer steps all would fit
                return f"{scale} is not the product of the scales of what {name} is the bias of"
            if whole.dtype == np.int8 and not _finest(expected, steps, axis, precision):
                return f"{scale} is not the largest magnitude of {name} over {LARGEST}"
        if name in read.steps:
            continue
        found = numpy_helper.to_array(converted[name])
        if found.dtype != expected.dtype and precision is not None:
            expected = expected.astype(HALVES[precision].numpy)
        if found.dtype != expected.dtype or not np.array_equal(found, expected):
            return f"{name} is not the rounded weight"
    return ""


def _scale_problem(full: _Reading, read: _Reading, scales: Mapping[str, float]) -> str:
    """A scale of an activation that is not what calibration gives; "" if all are."""

    def value(name: str) -> NDArray[Any]:
        return numpy_helper.to_array(read.weights[name])

    wanted = {full.origin[name]: (name, scale) for name, scale in scales.items()}
    for origin, scale in read.pairs:
        name, expected = wanted.get(origin, (origin, None))
        if scale not in read.weights or value(scale).shape != () or expected != value(scale):
            found = value(scale).tolist() if scale in read.weights else "computed"
            return f"{name} is quantised with scale {found}, calibration gives {expected}"
    return ""


def _biases(read: _Reading) -> set[str]:
    """Weights that are only ever biases, in steps that are the product of the product's scales."""
    made = {name: node for node in read.graph.node for name in node.output}
    right: set[str] = set()
    other: set[str] = set()
    for node in read.graph.node:
        for index, name in enumerate(node.input):
            if (weight := read.origin[name]) not in read.steps:
                continue
            if node.op_type == "Add":
                product = made.get(node.input[1 - index])
            else:
                product = node if index == 2 else None
            operands = () if product is None else product.input[:2]
            scales = [read.scaled.get(value, "") for value in (name, *operands)]
            steps = [numpy_helper.to_array(read.weights[s]) for s in scales if s in read.weights]
            fits = len(steps) == 3 and not steps[1].ndim
            fits = fits and np.array_equal(steps[0], steps[2] * steps[1])
            (right if fits else other).add(weight)
    return right - other


def _finest(
    weight: NDArray[Any], steps: NDArray[Any], axis: int, around: HalfPrecision | None
) -> bool:
    """Whether a weight has the scales that its largest magnitudes ask for, exactly."""
    others = tuple(i for i in range(weight.ndim) if not steps.ndim or i != axis % weight.ndim)
    smallest = SMALLEST_SCALE["fp32" if around is None else "fp16"]
    expected = round_scale(np.abs(weight).max(axis=others) / LARGEST, smallest)
    return np.array_equal(steps.astype(np.float32), expected)


def _within_half_a_step(
    weight: NDArray[Any], integers: NDArray[Any], scale: NDArray[Any], axis: int
) -> bool:
    steps = scale.astype(np.float64)
    if steps.ndim:
        steps = np.expand_dims(steps, [i for i in range(weight.ndim) if i != axis])
    error = np.abs(integers * steps - weight)
    return bool((error <= steps * (0.5 + 1e-3)).all())  # scales were divided by in FP32


_SHOWN = 3
_WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8}


def require_same_network(old: Path, new: Path) -> None:
    """Check that ``new`` is ``old`` but for the values of its weights.

    Nodes with their names, operators, edges and attributes, the names, shapes and dtypes of the
    weights, the inputs and the outputs have to be equal; so have integers, which are shapes and
    indices and no weights.
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
