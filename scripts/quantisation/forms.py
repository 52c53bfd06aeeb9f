"""The placements that were tried, as functions of a graph's places, and edits the product lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from swin_deploy.graph.int8.insert import LARGEST
from swin_deploy.graph.int8.places import GemmKind, Places, module_of, static_shape
from swin_deploy.graph.int8.recipe import RECIPES, Placement, choose_places
from swin_deploy.narrow import present

ATTENTION: frozenset[GemmKind] = frozenset({"qkv", "proj"})
BLOCKS: frozenset[GemmKind] = ATTENTION | {"fc1", "fc2"}
EVERY = BLOCKS | {"merge"}

ZERO = "int8.zero"  # the zero point that the product's pairs share
Place = Callable[[Places, int], Placement]  # places and batch -> what is quantised
Edit = Callable[[ir.Model], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """A placement.

    Attributes:
        name: In the tables.
        place: What is quantised.
        edit: Is applied to the graph with its Q/DQ pairs, in FP32.
        surrounding: Precision of what is not quantised.
        slabs: Whether it is about slabs, so that other graphs have no figure.
    """

    name: str
    place: Place
    edit: Edit | None = None
    surrounding: Literal["fp16", "fp32"] = "fp16"
    slabs: bool = False


def placed(kinds: Collection[GemmKind], attention: bool = True) -> Place:
    """The products of these kinds, and with or without the attentions."""

    def place(places: Places, batch: int) -> Placement:
        gemms = tuple(gemm for gemm in places.gemms if gemm.kind in kinds)
        return Placement(gemms, places.attentions if attention else ())

    return place


def chosen(places: Places, batch: int) -> Placement:
    """What an export for TensorRT quantises."""
    return choose_places(places, RECIPES["tensorrt"], batch)


def own_scales(places: Places, batch: int) -> Placement:
    """Everything, with query, key and value quantised apart even if they are slabs of a product."""
    attentions = tuple(replace(attention, slabs=None) for attention in places.attentions)
    return Placement(placed(EVERY)(places, batch).gemms, attentions)


def slab_scales(axis: int) -> Edit:
    """Give the weights of slabs, (3, c in, c out), a scale for each index of an axis."""

    def edit(model: ir.Model) -> None:
        for node in tuple(model.graph):
            whole = node.inputs[0] if node.op_type == "DequantizeLinear" else None
            if whole is not None and whole.is_initializer() and len(static_shape(whole)) == 3:
                _scale_weight(node, axis)

    return edit


def cut_before_gelu(model: ir.Model) -> None:
    """Quantise what leaves the product of fc1, in front of its bias and of the activation."""
    for node in tuple(model.graph):
        if node.op_type == "MatMul" and module_of(node).endswith(".fc1"):
            _quantise_output(model.graph, node)


def one_scale_for_fc1(model: ir.Model) -> None:
    """Give each weight of an fc1 a single scale, where the product has one for each channel."""
    for node in tuple(model.graph):
        if node.op_type == "MatMul" and module_of(node).endswith(".fc1"):
            _scale_weight(present(present(node.inputs[1]).producer()), None)


def cut_with_one_scale(model: ir.Model) -> None:
    """Both."""
    one_scale_for_fc1(model)
    cut_before_gelu(model)


def without(is_left: Callable[[ir.Value], bool]) -> Edit:
    """Take the pairs away behind the values that ``is_left`` tells."""

    def edit(model: ir.Model) -> None:
        for node in tuple(model.graph):
            value = node.inputs[0] if node.op_type == "QuantizeLinear" else None
            if value is None or not is_left(value):
                continue
            ((back, _),) = node.outputs[0].uses()
            for reader, index in tuple(back.outputs[0].uses()):
                reader.replace_input_with(index, value)
            model.graph.remove([back, node], safe=True)

    return edit


def is_softmax(value: ir.Value) -> bool:
    """Whether it comes from a softmax."""
    producer = value.producer()
    return producer is not None and producer.op_type == "Softmax"


def is_result(value: ir.Value) -> bool:
    """Whether it comes from the second product of an attention, maybe in another order of axes."""
    producer = value.producer()
    while producer is not None and producer.op_type in ("Reshape", "Transpose"):
        value = producer.inputs[0]  # type: ignore[assignment]
        producer = value.producer()
    if producer is None or producer.op_type != "MatMul":
        return False
    pair = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    quantise = None if pair is None or pair.inputs[0] is None else pair.inputs[0].producer()
    source = None if quantise is None else quantise.inputs[0]
    return source is not None and is_softmax(source)


def _scale_weight(node: ir.Node, axis: int | None) -> None:
    """Quantise the weight again that a DequantizeLinear reads, with a scale for each index."""
    whole, scale = map(present, node.inputs[:2])
    weight = present(whole.const_value).numpy() * present(scale.const_value).numpy()
    others = tuple(i for i in range(weight.ndim) if i != axis)
    steps = np.abs(weight).max(axis=others, keepdims=True) / LARGEST
    rounded = np.rint(weight / steps).astype(np.int8)
    shape = () if axis is None else (-1,)
    for value, array in ((whole, rounded), (scale, steps.reshape(shape).astype(np.float32))):
        value.const_value, value.shape = ir.tensor(array, name=value.name), ir.Shape(array.shape)
    node.attributes.pop("axis", None)
    if axis is not None:
        node.attributes["axis"] = ir.AttrInt64("axis", axis)


def _quantise_output(graph: ir.Graph, node: ir.Node) -> None:
    value, readers = node.outputs[0], tuple(node.outputs[0].uses())
    step = ir.tensor(np.asarray(np.float32(0.05)), name=f"{value.name}.cut")
    scale = ir.Value(
        name=step.name, shape=step.shape, type=ir.TensorType(step.dtype), const_value=step
    )
    graph.register_initializer(scale)
    zero = graph.initializers[ZERO]
    there = ir.node("QuantizeLinear", [value, scale, zero], name=f"{node.name}/cut")
    back = ir.node("DequantizeLinear", [there.outputs[0], scale, zero], name=f"{node.name}/on")
    for made, dtype in ((there, ir.DataType.INT8), (back, ir.DataType.FLOAT)):
        made.outputs[0].name = f"{made.name}.value"
        made.outputs[0].shape, made.outputs[0].dtype = value.shape, dtype
    graph.insert_after(node, [there, back])
    for reader, index in readers:
        reader.replace_input_with(index, back.outputs[0])
