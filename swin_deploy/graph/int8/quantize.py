"""An FP32 graph -> the same with INT8 products, by thresholds that calibration has found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from swin_deploy.graph.export import rewrite
from swin_deploy.graph.half import convert_graph
from swin_deploy.graph.int8.insert import InsertQdq, before_transpose, result_readers
from swin_deploy.graph.int8.places import find_places
from swin_deploy.graph.int8.recipe import Placement, Recipe, choose_places
from swin_deploy.graph.int8.scales import SMALLEST_SCALE
from swin_deploy.narrow import present


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

    Raises:
        InputError: An activation has no threshold, or the graph does not convert to FP16.
    """
    with rewrite(source, final) as model:
        places = find_places(model.graph)
        placement = choose_places(places, recipe, batch, keep, only)
        activations = _activations(placement)
        smallest = SMALLEST_SCALE[recipe.surrounding]
        InsertQdq(placement, thresholds, smallest, recipe.integer_bias)(model)
        scales = {name: _scale_of(model.graph, name) for name in activations}
        if recipe.surrounding == "fp16":
            convert_graph(model.graph, "fp16", frozenset(fp32_nodes))
    return Int8Graph(
        gemms={gemm.name: gemm.node.name or "" for gemm in placement.gemms},
        attentions=tuple(attention.name for attention in placement.attentions),
        left=tuple(name for name in places.names if name not in placement.names),
        scales=scales,
    )


def _activations(placement: Placement) -> tuple[str, ...]:
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


def _scale_of(graph: ir.Graph, name: str) -> float:
    return float(present(graph.initializers[f"{name}.scale"].const_value).numpy())
