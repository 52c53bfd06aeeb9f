"""What of a graph can be quantised: its matrix products with weights, and its attentions.

Found by structure and by the names that nodes have from their modules, in graphs of the export
form, simplified or not.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a request names recipes, and is checked before anything heavy is imported
    import onnx_ir as ir

from swin_deploy.narrow import present

GemmKind = Literal["embed", "qkv", "proj", "fc1", "fc2", "merge", "head"]

# What a product is, by the module of its node; the first pattern that fits. The three projections
# of a slab attention have no module of their own.
_KINDS: tuple[tuple[GemmKind, re.Pattern[str]], ...] = (
    ("qkv", re.compile(r"(.*\.)?(qkv|attn)")),
    ("proj", re.compile(r"(.*\.)?(attn|blocks\.\d+)\.proj")),
    ("fc1", re.compile(r"(.*\.)?fc1")),
    ("fc2", re.compile(r"(.*\.)?fc2")),
    ("merge", re.compile(r"(.*\.)?reduction")),
    ("embed", re.compile(r"(.*\.)?(enter|patch_embed)\.proj")),
    ("head", re.compile(r"(.*\.)?head")),
)
GEMM_KINDS: tuple[GemmKind, ...] = tuple(kind for kind, _ in _KINDS)
_BLOCK = re.compile(r"(?:.*\.)?blocks\.\d+")
# Between the product of query and key and the softmax.
_LOGIT_OPERATORS = {"Add", "Mul", "Reshape", "Sub"}


@dataclass(frozen=True, slots=True, eq=False)
class Gemm:
    """A matrix product with a weight.

    Attributes:
        name: Path of its module.
        kind: What it is in the network.
        node: A MatMul, whose second input is an initializer: (c in, c out), or three of those; or a
            Gemm that transposes it, (c out, c in), and adds the bias itself.
    """

    name: str
    kind: GemmKind
    node: ir.Node

    @property
    def block(self) -> str:
        """Path of the block that it is in; "" outside of them."""
        match = _BLOCK.match(self.name)
        return match[0] if match else ""

    @property
    def weight(self) -> ir.Value:
        """The initializer."""
        return present(self.node.inputs[1])  # both operators have two inputs

    @property
    def out_axis(self) -> int:
        """The axis of the weight along which the channels that come out lie."""
        return 0 if self.node.op_type == "Gemm" else -1

    @property
    def columns(self) -> int:
        """Channels that go in."""
        return static_shape(self.weight)[-2 if self.out_axis else -1]

    def rows(self, batch: int) -> int:
        """Tokens of ``batch`` images where the batch is dynamic, else of the graph's own."""
        return math.prod(static_shape(self.node.inputs[0], batch)[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """softmax(q k^T + bias) v.

    Attributes:
        name: Path of its module.
        logits: The product of query and key.
        mix: The product of the softmax and the value.
        slabs: Query, key and value in one tensor, where they are slabs of a product to which
            nothing is added; None where they are not.
    """

    name: str
    logits: ir.Node
    mix: ir.Node
    slabs: ir.Value | None

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return static_shape(self.logits.inputs[0], 1)[-1]

    @property
    def keys(self) -> int:
        """Tokens that a query sees."""
        return static_shape(self.logits.inputs[1], 1)[-1]


@dataclass(frozen=True, slots=True)
class Places:
    """All places of a graph, in the order in which they run."""

    gemms: tuple[Gemm, ...]
    attentions: tuple[Attention, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them: what can be left out by name."""
        return (*(g.name for g in self.gemms), *(a.name for a in self.attentions))


def find_places(graph: ir.Graph) -> Places:
    """Look through a graph for products and attentions."""
    gemms, attentions = [], []
    for node in graph:
        if (gemm := _gemm(node)) is not None:
            gemms.append(gemm)
        if node.op_type == "Softmax" and (attention := _attention(node)) is not None:
            attentions.append(attention)
    return Places(tuple(gemms), tuple(attentions))


def static_shape(value: ir.Value | None, batch: int = 1) -> tuple[int, ...]:
    """The sizes of a value, ``batch`` for the dynamic one."""
    shape = present(present(value).shape)  # the graph has been through shape inference
    return tuple(size if isinstance(size, int) else batch for size in shape)


def module_of(node: ir.Node) -> str:
    """Path of the module that the name of a node tells; "" if none."""
    return (node.name or "").rpartition("/")[0]


def _gemm(node: ir.Node) -> Gemm | None:
    if node.op_type not in ("MatMul", "Gemm") or (
        node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
    ):
        return None
    weight, module = node.inputs[1], module_of(node)
    if weight is None or not weight.is_initializer():
        return None
    for kind, pattern in _KINDS:
        if pattern.fullmatch(module):
            slabs = kind == "qkv" and not module.endswith("qkv")
            return Gemm(f"{module}.qkv" if slabs else module, kind, node)
    return None


def _attention(softmax: ir.Node) -> Attention | None:
    logits = _product_before(softmax.inputs[0])
    readers = [node for node, _ in softmax.outputs[0].uses()]
    if logits is None or [node.op_type for node in readers] != ["MatMul"]:
        return None
    return Attention(module_of(softmax), logits, readers[0], _slabs_of(logits))


def _product_before(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    if node is None:
        return None
    if node.op_type == "MatMul":
        return None if any(i is None or i.is_initializer() for i in node.inputs) else node
    if node.op_type not in _LOGIT_OPERATORS:
        return None
    return next(filter(None, map(_product_before, node.inputs)), None)


def _slabs_of(logits: ir.Node) -> ir.Value | None:
    value = logits.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            weight = node.inputs[1]
            return value if weight is not None and len(static_shape(weight)) == 3 else None
        if node.op_type not in {"Reshape", "Slice", "Squeeze", "Transpose"}:
            return None
        value = node.inputs[0]
    return None
