"""What an engine costs: bytes, FLOPs and purpose of every kernel, and their sums."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from swin_deploy.engine.gpus import Gpu, estimate_s
from swin_deploy.engine.listing import Kernel, Listing, total
from swin_deploy.engine.purpose import Map, Placement
from swin_deploy.errors import InputError

if TYPE_CHECKING:
    from swin_deploy.engine.graph_facts import GraphFacts, GraphNode

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
