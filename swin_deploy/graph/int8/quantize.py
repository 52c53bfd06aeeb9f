"""An FP32 graph -> the same with INT8 products: the pass that inserts Q/DQ pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import DataType

from swin_deploy.core.errors import InputError, present
from swin_deploy.graph.export import rewrite
from swin_deploy.graph.half import convert_graph
from swin_deploy.graph.int8.places import (
    Attention,
    Gemm,
    Places,
    Recipe,
    choose_places,
    find_places,
    module_of,
    static_shape,
)
from swin_deploy.graph.int8.thresholds import LARGEST, SMALLEST_SCALE, round_scale

_ZERO = "int8.zero"


class InsertQdq(ir.passes.InPlacePass):
    """Put QuantizeLinear and DequantizeLinear in front of every operand of the chosen places.

    Before:  y = MatMul(x, w)
    After:   y = MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(int8 w))

    Weights become INT8 initializers with a scale per output channel. The three weights of a slab
    attention share one, and query, key and value share another: a product of slabs with several
    scales takes kernels of its own to apply them (docs/int8.md). An attention is quantised in
    five places, query, key, value, softmax and result; with one missing it does not fuse.

    Args:
        placement: Places of the graph that it is called on.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        smallest_scale: Scales below it are raised to it.
        integer_bias: Also turn the bias after a product into 32-bit integers, and write the zero
            points of weights. ONNX Runtime makes one integer kernel of a product and its bias only
            with both.
    """

    def __init__(
        self,
        placement: Places,
        thresholds: Mapping[str, float],
        smallest_scale: float,
        integer_bias: bool,
    ) -> None:
        self.placement, self.thresholds = placement, thresholds
        self.smallest, self.integer_bias = smallest_scale, integer_bias
        self._pairs: dict[str, ir.Value] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._graph = model.graph
        self._zero = self._initializer(_ZERO, np.int8(0))
        for attention in self.placement.attentions:
            self._quantise_attention(attention)
        for gemm in self.placement.gemms:
            self._quantise_gemm(gemm)
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():  # replaced by integers
                del self._graph.initializers[name]
        return ir.passes.PassResult(model, modified=bool(self._pairs))

    def _quantise_attention(self, attention: Attention) -> None:
        if attention.slabs is not None:
            uses = tuple(attention.slabs.uses())
            pair = self._pair(attention.slabs, attention.name)
            for node, index in uses:
                node.replace_input_with(index, pair)
        else:
            for node, index in ((attention.logits, 0), before_transpose(attention.logits, 1)):
                self._quantise_input(node, index)
            self._quantise_input(attention.mix, 1)
        self._quantise_input(attention.mix, 0)
        for node, index in result_readers(attention):
            self._quantise_input(node, index)

    def _quantise_gemm(self, gemm: Gemm) -> None:
        self._quantise_input(gemm.node, 0)
        weight = gemm.weight
        values = present(weight.const_value).numpy()
        slabs = values.ndim == 3
        axis = gemm.out_axis % values.ndim
        peaks = np.abs(values).max(axis=None if slabs else 1 - axis)
        scale = self._round(peaks / LARGEST)
        steps = scale if slabs else np.expand_dims(scale, 1 - axis)
        whole = np.rint(values / steps).clip(-LARGEST, LARGEST).astype(np.int8)
        operands = [
            self._initializer(f"{weight.name}.int8", whole),
            scale_value := self._initializer(f"{weight.name}.scale", scale),
        ]
        if self.integer_bias:  # ONNX Runtime multiplies in floats where the zeros are left out
            zeros = np.zeros(np.shape(scale), dtype=np.int8)
            operands.append(self._initializer(f"{weight.name}.zero", zeros))
        node = ir.node("DequantizeLinear", operands, {} if slabs else {"axis": axis})
        back = self._outputs(node, weight, module_of(gemm.node), f"{weight.name}.dequantized")
        self._graph.insert_before(gemm.node, node)
        gemm.node.replace_input_with(1, back)
        if self.integer_bias and not slabs:
            self._quantise_bias(gemm, scale_value)

    def _quantise_bias(self, gemm: Gemm, scale: ir.Value) -> None:
        if (place := bias_of(gemm.node)) is None:
            return
        add, position = place
        bias, pair = present(add.inputs[position]), present(gemm.node.inputs[0])
        of_input = present(present(pair.producer()).inputs[1])
        steps = present(scale.const_value).numpy() * present(of_input.const_value).numpy()
        limit = np.iinfo(np.int32).max
        whole = np.rint(present(bias.const_value).numpy().astype(np.float64) / steps)
        operands = [
            self._initializer(f"{bias.name}.int32", whole.clip(-limit, limit).astype(np.int32)),
            self._initializer(f"{bias.name}.scale", steps.astype(np.float32)),
        ]
        node = ir.node("DequantizeLinear", operands, {"axis": 0})
        back = self._outputs(node, bias, module_of(add), f"{bias.name}.dequantized")
        self._graph.insert_before(add, node)
        add.replace_input_with(position, back)

    def _quantise_input(self, node: ir.Node, index: int) -> None:
        value = present(node.inputs[index])
        producer = value.producer()
        if producer is None or producer.op_type != "DequantizeLinear":
            node.replace_input_with(index, self._pair(value, module_of(node)))

    def _pair(self, value: ir.Value, module: str) -> ir.Value:
        """The value behind its Q/DQ pair, made once, and named after who reads it."""
        name = str(value.name)
        if name not in self._pairs:
            if not 0 < self.thresholds.get(name, 0) < np.inf:
                raise InputError(
                    f"{name} has no range to quantise it with: {self.thresholds.get(name)}",
                    "calibrate with the same graph and placement",
                )
            step = self._round(np.asarray(self.thresholds[name] / LARGEST))
            scale = self._initializer(f"{name}.scale", step)
            there = ir.node("QuantizeLinear", [value, scale, self._zero])
            whole = self._outputs(there, value, module, f"{name}.int8", DataType.INT8)
            back = ir.node("DequantizeLinear", [whole, scale, self._zero])
            self._pairs[name] = self._outputs(back, value, module, f"{name}.dequantized")
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], [there, back])
            else:
                self._graph.insert_after(producer, [there, back])
        return self._pairs[name]

    def _round(self, scale: NDArray[np.floating]) -> NDArray[np.float32]:
        return round_scale(scale, self.smallest)

    def _initializer(self, name: str, values: NDArray[np.generic] | np.generic) -> ir.Value:
        tensor = ir.tensor(np.asarray(values), name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(np.shape(values)),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value

    def _outputs(
        self,
        node: ir.Node,
        like: ir.Value,
        module: str,
        name: str,
        dtype: DataType = DataType.FLOAT,
    ) -> ir.Value:
        node.name = f"{module}/{node.op_type}.{like.name}"
        result = node.outputs[0]
        result.name, result.shape, result.dtype = name, like.shape, dtype
        return result


def bias_of(product: ir.Node) -> tuple[ir.Node, int] | None:
    """Where a product's bias is added: a number per channel, not a residual; None if nowhere."""
    readers = tuple(product.outputs[0].uses())
    places = [(product, 2)] if len(product.inputs) > 2 else []
    if not places and len(readers) == 1 and readers[0][0].op_type == "Add":
        places = [(readers[0][0], 1 - readers[0][1])]
    for node, index in places:
        bias = node.inputs[index]
        if bias is not None and bias.is_initializer() and len(static_shape(bias)) == 1:
            return node, index
    return None


def before_transpose(node: ir.Node, index: int) -> tuple[ir.Node, int]:
    """Where to quantise an operand: in front of its transposition, if it has one.

    A key is quantised before it is transposed, as it is copied; behind it the attention would not
    fuse.
    """
    value = node.inputs[index]
    producer = None if value is None else value.producer()
    return (
        (producer, 0) if producer is not None and producer.op_type == "Transpose" else (node, index)
    )


def result_readers(attention: Attention) -> list[tuple[ir.Node, int]]:
    """What reads the result, behind the transposition that brings the heads together."""
    found, waiting = [], list(attention.mix.outputs[0].uses())
    while waiting:
        node, index = waiting.pop()
        if node.op_type in ("Transpose", "Reshape") and index == 0:
            waiting += node.outputs[0].uses()
        else:
            found.append((node, index))
    return found


@dataclass(frozen=True, slots=True)
class Int8Graph:
    """What was quantised.

    Attributes:
        gemms: Name of a matrix product -> name of its node.
        attentions: Names of the attentions.
        left: Names of those that the recipe leaves as they are, or that were kept by name.
        scales: Name of an activation -> its scale.
    """

    gemms: dict[str, str]
    attentions: tuple[str, ...]
    left: tuple[str, ...]
    scales: dict[str, float]


def tensors_to_calibrate(
    source: Path, recipe: Recipe, batch: int, keep: Sequence[str] = ()
) -> tuple[str, ...]:
    """Names of the activations whose ranges ``quantize_graph`` needs.

    Args:
        source: The FP32 graph.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: As of ``choose_places``.
    """
    model = ir.load(source)
    placement = choose_places(find_places(model.graph), recipe, batch, keep)
    return _activations(placement)


def quantize_graph(
    source: Path,
    final: Path,
    thresholds: Mapping[str, float],
    recipe: Recipe,
    batch: int,
    keep: Sequence[str] = (),
    fp32_nodes: Collection[str] = (),
    only: Sequence[str] | None = None,
) -> Int8Graph:
    """Write ``source`` with Q/DQ pairs to ``final``, what is around them in the recipe's precision.

    Args:
        source: An FP32 graph in export form. Unchanged.
        final: Replaced only by a graph that passes the checker.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: As of ``choose_places``.
        fp32_nodes: Names of nodes that stay in FP32 where the rest is FP16.
        only: As of ``choose_places``.
    """
    with rewrite(source, final) as model:
        places = find_places(model.graph)
        placement = choose_places(places, recipe, batch, keep, only)
        activations = _activations(placement)
        smallest = SMALLEST_SCALE[recipe.surrounding]
        InsertQdq(placement, thresholds, smallest, recipe.integer_bias)(model)
        values = {name: model.graph.initializers[f"{name}.scale"] for name in activations}
        scales = {name: float(present(v.const_value).numpy()) for name, v in values.items()}
        if recipe.surrounding == "fp16":
            convert_graph(model.graph, "fp16", frozenset(fp32_nodes))
    return Int8Graph(
        gemms={gemm.name: gemm.node.name or "" for gemm in placement.gemms},
        attentions=tuple(attention.name for attention in placement.attentions),
        left=tuple(name for name in places.names if name not in placement.names),
        scales=scales,
    )


def _activations(placement: Places) -> tuple[str, ...]:
    values: list[ir.Value | None] = []
    for attention in placement.attentions:
        if attention.slabs is not None:
            values.append(attention.slabs)
        else:
            key, index = before_transpose(attention.logits, 1)
            values += [attention.logits.inputs[0], key.inputs[index], attention.mix.inputs[1]]
        values.append(attention.mix.inputs[0])
        values += [node.inputs[index] for node, index in result_readers(attention)]
    values += [gemm.node.inputs[0] for gemm in placement.gemms]
    return tuple(dict.fromkeys(str(value.name) for value in values if value is not None))
