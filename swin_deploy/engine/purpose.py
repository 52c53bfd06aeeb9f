"""What a kernel is for, and in which block: read from the modules of its ONNX nodes.

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

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # tables need the names of purposes, and no ONNX
    from swin_deploy.engine.graph_facts import GraphNode

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
