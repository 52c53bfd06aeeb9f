"""What an engine costs: bytes, FLOPs and purpose of every kernel, and their sums.

    attention    softmax(q k^T + bias) v, and what is computed for it: masks, unit vectors
    projection   the matrix products before and after it: qkv and proj
    relayout     copies of q, k, v or of the result, which compute nothing but a bias or a scale
    mlp          the two matrix products of a block, and its activation
    norm         LayerNormalization with the additions before it
    permutation  tokens from one order of windows to another: roll, partition, gather
    embed, merge, head   what comes before the first block, between two of them, after the last
    other        residual additions of their own, and what no rule knows

A kernel of several purposes has the first of this module's table; a permutation that is fused into
another is named beside it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from swin_deploy.core.errors import InputError
from swin_deploy.engine.cost.gpus import Gpu, estimate_s
from swin_deploy.engine.cost.listing import Kernel, Listing, total

if TYPE_CHECKING:
    from swin_deploy.engine.cost.graph_facts import GraphFacts, GraphNode


# Ours and timm's; torchvision's Swin and ViT; Hugging Face's Swin and ViT.
_BLOCK = re.compile(
    r"(?:.*?\.)?(?:blocks\.\d+|features\.[1-9]\d*\.\d+|encoder_layer_\d+"
    r"|layers?\.\d+(?=\.(?:attention|intermediate|output|layernorm|mlp)))(?![^.])"
)
_PRODUCT = re.compile(r"/(product|linear)$")
_ATTENTION = r"block:(?:attn|attention|self_attention|qkv|proj)\b[^/]*"

# What a node stands for is written "place:module/role"; the first row that fits any node of a
# kernel decides. "block:" is followed by the path inside the block.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (purpose, re.compile(pattern))
    for purpose, pattern in (
        ("attention", r"block:[^/]*/(product|softmax)$"),
        ("projection", rf"{_ATTENTION}/linear$"),
        ("mlp", r"block:[^/]*/linear$"),
        ("embed", r"before:[^/]*/(?!shape)"),
        ("head", r"after:[^/]*/(?!shape)|between:stage\d"),
        ("merge", r"between:[^/]*/(?!shape)"),
        ("norm", r"block:[^/]*/norm$"),
        ("attention", rf"{_ATTENTION}/math$"),
        ("mlp", r"block:(mlp|intermediate|output)\b[^/]*/math$"),
        ("permutation", r"block:/move$"),
        ("relayout", rf"{_ATTENTION}/(move|shape|bias|scale)$"),
        ("relayout", r"block:/shape$"),
        ("mlp", r"block:(mlp|intermediate|output)\b"),
        ("embed", r"before:"),  # casts, which are named after values, wherever they are
        ("head", r"after:"),
        ("merge", r"between:"),
    )
)
PURPOSES = (
    *("attention", "projection", "relayout", "mlp", "norm", "permutation"),
    *("embed", "merge", "head", "other"),
)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a kernel belongs.

    Attributes:
        purpose: One of ``PURPOSES``.
        block: Path of its block; "" outside of them.
        permutes: Whether it also brings tokens into another order, without being for that.
    """

    purpose: str
    block: str
    permutes: bool = False


class Map:
    """Places of all nodes of a graph.

    Args:
        nodes: In the order in which they run.
    """

    def __init__(self, nodes: Iterable[GraphNode]) -> None:
        nodes = tuple(nodes)
        inside = [i for i, node in enumerate(nodes) if _BLOCK.match(node.module)]
        first, last = (inside[0], inside[-1]) if inside else (len(nodes), -1)
        self.known = bool(inside)  # whether there are blocks at all
        self._places: dict[str, tuple[str, str]] = {}
        plain = {
            m[0]
            for node in nodes
            if (m := _BLOCK.match(node.module.removesuffix(".qkv")))
            and node.module == f"{m[0]}.qkv"
        }
        for index, node in enumerate(nodes):
            if match := _BLOCK.match(node.module):
                rest = node.module[match.end() :].lstrip(".")
                if not rest and match[0] in plain and node.role in ("move", "shape"):
                    rest = "qkv"  # blocks without a module for attention, our ViT's, keep q, k, v
                self._places[node.name] = match[0], f"block:{rest}/{node.role}"
            elif inside:
                place = "before" if index < first else "after" if index > last else "between"
                self._places[node.name] = "", f"{place}:{node.module}/{node.role}"

    def place(self, onnx_nodes: Sequence[str], owned: Collection[str]) -> Placement:
        """The purpose and the block of a kernel.

        Args:
            onnx_nodes: That it names.
            owned: Those that it computes. A matrix product that another kernel computes is named by
                copies of its operands, too.
        """
        places = []
        for name in onnx_nodes:
            if name in self._places:
                block, text = self._places[name]
                places.append((block, text if name in owned else _PRODUCT.sub("/move", text)))
        for purpose, pattern in _RULES:
            for block, text in places:
                if pattern.match(text):
                    moves = any(text == "block:/move" for _, text in places)
                    return Placement(purpose, block, moves and purpose != "permutation")
        return Placement("other", next((block for block, _ in places), ""))


Key = TypeVar("Key")

_COUNTERS = re.compile(r"_myl\d+(_\d+)?\b|(?<=__mye)\d+")


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One kernel.

    Attributes:
        kernel: As the compiler listed it.
        placement: What it is for.
        flops: Of the ONNX nodes that it computes; None where the batch is dynamic.
        estimate_s: Roofline time on the GPU that was asked about; None without one, or where the
            batch is dynamic.
        bound: What that time is bound by: "memory", "compute", or "".
    """

    kernel: Kernel
    placement: Placement
    flops: int | None
    estimate_s: float | None = None
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over kernels; None where something among them is dynamic or not known.

    Attributes:
        kernels: How many.
        activation_bytes: Read and written.
        weight_bytes: Read.
        flops: Of matrix products and convolutions.
        estimate_s: Roofline time.
    """

    kernels: int
    activation_bytes: int | None
    weight_bytes: int | None
    flops: int | None
    estimate_s: float | None

    @property
    def moved_bytes(self) -> int | None:
        """Activations and weights."""
        return total((self.activation_bytes, self.weight_bytes))

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte that is moved."""
        return self.flops / self.moved_bytes if self.flops and self.moved_bytes else None


@dataclass(frozen=True, slots=True)
class Cost:
    """An engine.

    Attributes:
        kernels: In the order in which they run.
        attentions: Of the graph.
        fused_attentions: How many of them are one kernel each.
        unattributed: Nodes with FLOPs that no kernel names: the sums lack those.
        unplaced: Whether no block was recognised in the graph's names.
    """

    kernels: tuple[KernelCost, ...]
    attentions: int
    fused_attentions: int
    unattributed: tuple[str, ...] = ()
    unplaced: bool = False

    @property
    def totals(self) -> Sums:
        """Over all kernels."""
        return add_up(self.kernels)

    def by_purpose(self) -> dict[str, Sums]:
        """Purpose -> sums, in the order in which the purposes first appear."""
        return _grouped((cost.placement.purpose, cost) for cost in self.kernels)

    def by_block(self) -> dict[tuple[str, str], Sums]:
        """(Block, purpose) -> sums, in order; the block is "" outside of them."""
        return _grouped(((c.placement.block, c.placement.purpose), c) for c in self.kernels)


def cost_listing(listing: Listing, graph: GraphFacts, gpu: Gpu | None = None) -> Cost:
    """Put a compiler's listing and its graph together.

    Args:
        listing: Of an engine.
        graph: What the engine was compiled from.
        gpu: Estimates times on it.

    Raises:
        InputError: The compiler's listing could not be read.
        ConfigError: The GPU has no known rate for a datatype of the engine.
    """
    if listing.problem or not listing.kernels:
        raise InputError(f"its kernels are not known: {listing.problem or 'none are listed'}")
    places = Map(graph.nodes.values())
    owners = {node.name: _owner(node, listing.kernels) for node in graph.nodes.values()}
    kernels = []
    for index, kernel in enumerate(listing.kernels):
        own = [name for name in dict.fromkeys(kernel.onnx_nodes) if owners.get(name) == index]
        flops = total(graph.nodes[name].flops for name in own)
        moved = total((kernel.activation_bytes, kernel.constant_bytes))
        estimate: tuple[float | None, str] = (None, "")
        if gpu is not None and moved is not None and flops is not None:
            estimate = estimate_s(gpu, moved, flops, kernel.operand_dtype)
        kernels.append(KernelCost(kernel, places.place(kernel.onnx_nodes, own), flops, *estimate))
    return Cost(
        kernels=tuple(kernels),
        attentions=graph.attentions,
        fused_attentions=listing.fused_attentions,
        unattributed=tuple(
            node.name
            for node in graph.nodes.values()
            if node.flops != 0 and not node.constant and owners[node.name] is None
        ),
        unplaced=not places.known,
    )


def _owner(node: GraphNode, kernels: tuple[Kernel, ...]) -> int | None:
    """The kernel that computes a node: several may name it, the slices of a packed product do."""
    named = [index for index, kernel in enumerate(kernels) if node.name in kernel.onnx_nodes]
    wants_attention = node.role == "product"

    def rank(index: int) -> tuple[bool, bool, int]:
        kernel = kernels[index]
        return kernel.fused_attention != wants_attention, not kernel.matrix, index

    return min(named, key=rank, default=None)


def add_up(costs: Iterable[KernelCost]) -> Sums:
    """Sums of some kernels."""
    costs = tuple(costs)
    times = [cost.estimate_s for cost in costs]
    return Sums(
        kernels=len(costs),
        activation_bytes=total(cost.kernel.activation_bytes for cost in costs),
        weight_bytes=total(cost.kernel.constant_bytes for cost in costs),
        flops=total(cost.flops for cost in costs),
        estimate_s=None if None in times else sum(time for time in times if time is not None),
    )


def _grouped(pairs: Iterable[tuple[Key, KernelCost]]) -> dict[Key, Sums]:
    groups: dict[Key, list[KernelCost]] = {}
    for key, cost in pairs:
        groups.setdefault(key, []).append(cost)
    return {key: add_up(costs) for key, costs in groups.items()}


def kernel_lines(cost: Cost) -> list[str]:
    """A line per kernel, without what changes from build to build: to keep, and to compare."""
    return [
        f"{c.placement.purpose:11} {c.placement.block or '-':20} {c.kernel.kind:14} "
        f"{_short_name(c)} {_bytes(c.kernel)}"
        for c in cost.kernels
    ]


def diff_listings(old: Sequence[str], new: Sequence[str]) -> str:
    """What changed from some ``kernel_lines`` to others: a unified diff; "" if nothing."""
    return "\n".join(difflib.unified_diff(old, new, "old", "new", lineterm="", n=1))


def _short_name(cost: KernelCost) -> str:
    """Without counters, the compiler's prefix, and the block, which has a column of its own."""
    name = _COUNTERS.sub("", cost.kernel.name).removeprefix("__myl_")
    return name.removeprefix(f"{cost.placement.block}.")


def _bytes(kernel: Kernel) -> str:
    moved = total((kernel.activation_bytes, kernel.constant_bytes))
    return "dynamic" if moved is None else f"{moved} B"


def products_not_in_int8(listing: Listing, nodes: Iterable[str]) -> tuple[str, ...]:
    """The quantised products that no kernel computes from INT8 activations and INT8 weights.

    Q/DQ pairs leave a compiler the choice to de-quantise first and multiply in the surrounding
    precision. That gives right numbers, and none of what INT8 is for.

    Args:
        listing: Of the engine.
        nodes: Names of the MatMul nodes that are quantised.
    """
    in_int8 = {
        name for kernel in listing.kernels if _multiplies_int8(kernel) for name in kernel.onnx_nodes
    }
    return tuple(node for node in nodes if node not in in_int8)


def _multiplies_int8(kernel: Kernel) -> bool:
    return kernel.matrix and all(
        any(tensor.dtype == "Int8" for tensor in tensors)
        for tensors in (kernel.inputs, kernel.constants)
    )
