"""Where the recipe rounds, in terms of the frozen network's modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from swin_deploy.graph.int8.insert import before_transpose, result_readers
from swin_deploy.graph.int8.places import Attention, find_places, module_of
from swin_deploy.graph.int8.recipe import Placement, Recipe, choose_places
from swin_deploy.narrow import present


@dataclass(frozen=True, slots=True)
class Activation:
    """Something that is rounded with a fixed scale.

    Attributes:
        module: Path of a module of the frozen network.
        side: Whether what goes into it, or what comes out.
        tensor: What the graph calls it, by which its scale is known.
    """

    module: str
    side: Literal["input", "output"]
    tensor: str


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight, and the bias after it.

    Attributes:
        module: Whose ``weight`` and ``bias`` they are.
        tensor: What the graph calls the other factor.
    """

    module: str
    tensor: str


@dataclass(frozen=True, slots=True)
class Sites:
    """All that is rounded."""

    activations: tuple[Activation, ...]
    weights: tuple[Weight, ...]


def find_sites(graph: Path, recipe: Recipe, batch: int, keep: tuple[str, ...]) -> Sites:
    """The places that ``quantize_graph`` quantises, for the same arguments.

    Args:
        graph: Exported from the frozen network, whose modules name its nodes.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: As of ``choose_places``.
    """
    placement = choose_places(find_places(ir.load(graph).graph), recipe, batch, keep)
    activations = dict.fromkeys(_activations(placement))
    weights = tuple(Weight(module_of(g.node), _name(g.node.inputs[0])) for g in placement.gemms)
    return Sites(tuple(activations), weights)


def _activations(placement: Placement) -> Iterator[Activation]:
    for attention in placement.attentions:
        yield from _of_attention(attention)
    for gemm in placement.gemms:
        yield Activation(module_of(gemm.node), "input", _name(gemm.node.inputs[0]))


def _of_attention(attention: Attention) -> Iterator[Activation]:
    def at(place: str, value: ir.Value | None) -> Activation:
        return Activation(f"{attention.name}.at_{place}", "output", _name(value))

    if attention.slabs is not None:
        yield at("slabs", attention.slabs)
    else:
        key, index = before_transpose(attention.logits, 1)
        yield at("query", attention.logits.inputs[0])
        yield at("key", key.inputs[index])
        yield at("value", attention.mix.inputs[1])
    yield at("weights", attention.mix.inputs[0])
    for node, index in result_readers(attention):
        yield Activation(module_of(node), "input", _name(node.inputs[index]))


def _name(value: ir.Value | None) -> str:
    return str(present(value).name)
