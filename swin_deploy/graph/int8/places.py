"""What of a graph can be quantised, and what is quantised for which kind of runtime.

Found by structure and by the names that nodes have from their modules, in graphs of the export
form, simplified or not.

docs/int8.md has what NVIDIA's compiler makes of every placement that was tried.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from swin_deploy.core.errors import ConfigError, nearest, present

if TYPE_CHECKING:
    import onnx_ir as ir


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
    ("head", re.compile(r"(.*\.)?head(\.\d+)?")),
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
    """Places of a graph, of each kind in the order in which they run."""

    gemms: tuple[Gemm, ...]
    attentions: tuple[Attention, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them: what can be named to be left out."""
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


# Sizes for which NVIDIA's compilers fuse a quantised attention (see docs/int8.md).
_HEAD_SIZES = {16, 32, 64}
_MOST_KEYS = 512
_MLP = ("fc1", "fc2")
# A quantised MLP is one kernel more: no product with INT8 operands takes in the activation
# function. Blocks are 7 kernels in FP16, and a tenth more than those is what may be spent.
_KERNELS_OF_A_BLOCK, _SPARE_KERNELS = 7, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a kind of runtime wants its graph quantised.

    Attributes:
        kinds: The matrix products to quantise.
        attention: Quantise the two products of attention as well, where their sizes allow.
        mlp: "all", or "smaller": where that moves fewer bytes, and only so many that the kernels
            become a tenth more at most.
        surrounding: Precision of everything else.
        integer_bias: Write biases as 32-bit integers, and the zero points of weights, which is what
            turns a product and its bias into one integer kernel in ONNX Runtime. Exact to the last
            bit of a 32-bit sum.
    """

    kinds: frozenset[GemmKind] = frozenset({"qkv", "proj", "fc1", "fc2", "merge"})
    attention: bool
    mlp: Literal["all", "smaller"]
    surrounding: Literal["fp32", "fp16"]
    integer_bias: bool

    @property
    def simulated(self) -> bool:
        """Whether its products are those of another runtime, for which ONNX Runtime stands in.

        It multiplies in FP32 then: its own kernels want integer biases, and would be no likeness.
        """
        return not self.integer_bias

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, the same for the same recipe."""
        return asdict(self) | {"kinds": sorted(self.kinds)}


RECIPES: dict[str, Recipe] = {
    "tensorrt": Recipe(attention=True, mlp="smaller", surrounding="fp16", integer_bias=False),
    "onnxruntime": Recipe(attention=False, mlp="all", surrounding="fp32", integer_bias=True),
}


def recipe_for(kind: str, also: Iterable[GemmKind] = ()) -> Recipe:
    """The recipe of a kind of target, with further kinds of products."""
    recipe = RECIPES[kind]
    return replace(recipe, kinds=recipe.kinds | frozenset(also))


def choose_places(
    places: Places,
    recipe: Recipe,
    batch: int,
    keep: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Places:
    """The places of a graph that a recipe quantises.

    What is kept, or not among ``only``, is left out of what the recipe alone would choose, so that
    keeping more never quantises anything else instead. Where the recipe wants both products of an
    MLP or none, keeping one leaves out the other too.

    Args:
        places: Of the graph.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: Names, or patterns of names with * and ?, of places to leave as they are.
        only: Likewise, of the places to quantise, each for itself; None for all that the recipe
            chooses.
    """
    kept = matching(places.names, keep)
    gemms = [g for g in places.gemms if g.kind in recipe.kinds]
    if recipe.mlp == "smaller":
        chosen = _smaller_mlps(gemms, batch, {g.block for g in places.gemms if g.block})
        chosen -= {g.block for g in gemms if g.kind in _MLP and g.name in kept}
        gemms = [g for g in gemms if g.kind not in _MLP or g.block in chosen]
    gemms = [g for g in gemms if g.name not in kept]
    attentions = [
        a
        for a in places.attentions
        if recipe.attention and a.name not in kept  # and it stays one kernel
        if a.head_size in _HEAD_SIZES and a.keys <= _MOST_KEYS
    ]
    if not gemms:
        raise ConfigError(
            f"nothing is left to quantise: of {len(places.gemms)} products with weights, none is "
            f"{', '.join(k for k in GEMM_KINDS if k in recipe.kinds)} and not kept by "
            f"{', '.join(keep) or 'anything'}",
            "--precision fp16",
        )
    placement = Places(tuple(gemms), tuple(attentions))
    if only is None:
        return placement
    wanted = matching(placement.names, only)
    return Places(
        tuple(g for g in gemms if g.name in wanted),
        tuple(a for a in attentions if a.name in wanted),
    )


def matching(
    names: Sequence[str],
    patterns: Iterable[str],
    what: str = "product or attention",
    hint: str = "{} or a pattern as *.mlp.fc2",
) -> set[str]:
    """The names that any of the patterns fits.

    Args:
        names: Of all.
        patterns: Names, or patterns with ``*``, ``?`` and ``[...]``; each fits at least one.
        what: What they are names of.
        hint: What to try, with the nearest names in place of {}.
    """
    found: set[str] = set()
    for pattern in patterns:
        if not (fits := fnmatch.filter(names, pattern)):
            near = " or ".join(nearest(pattern, names)[:4])
            raise ConfigError(f"no {what} is called {pattern!r}", hint.format(near))
        found.update(fits)
    return found


def _smaller_mlps(gemms: Sequence[Gemm], batch: int, blocks: set[str]) -> set[str]:
    """Blocks whose MLP moves fewer bytes in INT8 than in FP16, those that save the most first.

    With T tokens of c channels and h hidden ones, the weights are 2ch bytes less. The activations
    are 2T(h - c) more: the hidden ones are written, read and written again by the kernel that the
    activation function has become.
    """
    saved: dict[str, int] = {}
    pairs: dict[str, list[Gemm]] = {}
    for gemm in gemms:
        if gemm.kind in _MLP:
            pairs.setdefault(gemm.block, []).append(gemm)
    for block, pair in pairs.items():
        if len(pair) == 2:  # one alone is quantised and de-quantised for nothing
            first, second = pair
            c, hidden = first.columns, second.columns
            saved[block] = 2 * c * hidden - 2 * first.rows(batch) * (hidden - c)
    most = int(_KERNELS_OF_A_BLOCK * _SPARE_KERNELS * len(blocks))
    best = sorted((b for b in saved if saved[b] > 0), key=lambda b: -saved[b])
    return set(best[:most])
