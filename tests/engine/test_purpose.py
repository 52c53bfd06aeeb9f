"""What kernels are for, from the module paths of four libraries."""

from __future__ import annotations

import pytest

from swin_deploy.engine.cost.graph_facts import GraphNode
from swin_deploy.engine.cost.kernels import PURPOSES, Map, Placement

OURS, TIMM = "layers.0.blocks.1", "layers.1.blocks.0"
TORCHVISION, FACE, FACE_VIT = "features.3.1", "swin.encoder.layers.1.blocks.0", "vit.layers.0"


def place(*nodes: tuple[str, str], named_only: tuple[str, ...] = ()) -> Placement:
    """Of a kernel with these (module, role), inside a network that has a block before and after."""
    ends = [GraphNode(n, f"{n}.blocks.0.attn", "softmax") for n in ("first", "last")]
    own = [GraphNode(f"{module}/{role}", module, role) for module, role in nodes]
    names = [node.name for node in own]
    places = Map([ends[0], *own, ends[1]])
    return places.place(names, [name for name in names if name not in named_only])


@pytest.mark.parametrize(
    ("nodes", "block", "purpose"),
    [
        ([(f"{OURS}.attn", "product"), (f"{OURS}.attn", "softmax")], OURS, "attention"),
        ([(f"{OURS}.attn.qkv", "linear"), (f"{OURS}.attn.qkv", "bias")], OURS, "projection"),
        ([(f"{OURS}.attn.proj", "linear"), (OURS, "math")], OURS, "projection"),
        ([(f"{OURS}.attn", "shape"), (f"{OURS}.attn", "move")], OURS, "relayout"),
        ([(f"{OURS}.attn.qkv", "bias"), (f"{OURS}.attn", "move")], OURS, "relayout"),
        ([(f"{OURS}.attn", "math")], OURS, "attention"),  # unit vectors of V2, masks
        ([("div_1.fp16", "shape"), (f"{OURS}.attn", "math")], OURS, "attention"),
        ([(f"{OURS}.mlp.fc1", "linear"), (f"{OURS}.mlp", "math")], OURS, "mlp"),
        ([(f"{OURS}.norm2", "norm"), (f"{OURS}.attn.proj", "bias")], OURS, "norm"),
        ([(OURS, "move")], OURS, "permutation"),
        ([(OURS, "math")], OURS, "other"),
        ([("layers.1.enter", "move"), ("layers.1.enter.norm", "norm")], "", "merge"),
        ([("layers.1.enter.reduction", "linear"), (f"{TIMM}.norm1", "norm")], "", "merge"),
        ([("layers.1.downsample.reduction", "linear")], "", "merge"),
        ([(f"{TIMM}.attn.softmax", "softmax")], TIMM, "attention"),
        ([(f"{TORCHVISION}.attn", "linear")], TORCHVISION, "projection"),
        ([(f"{TORCHVISION}.mlp.0", "linear")], TORCHVISION, "mlp"),
        ([("features.2.reduction", "linear")], "", "merge"),
        ([(f"{FACE}.attention.self.query", "linear")], FACE, "projection"),
        ([(f"{FACE}.attention.output.dense", "linear")], FACE, "projection"),
        ([(f"{FACE}.intermediate.dense", "linear")], FACE, "mlp"),
        ([(f"{FACE}.output.dense", "bias")], FACE, "mlp"),
        ([("swin.encoder.layers.0.downsample.reduction", "linear")], "", "merge"),
        ([(f"{FACE_VIT}.attention.q_proj", "linear")], FACE_VIT, "projection"),
        ([(f"{FACE_VIT}.layernorm_before", "norm")], FACE_VIT, "norm"),
    ],
)
def test_a_kernel_has_one_purpose(nodes: list[tuple[str, str]], block: str, purpose: str) -> None:
    assert place(*nodes) == Placement(purpose, block)
    assert purpose in PURPOSES


def test_our_vit_has_no_module_for_attention() -> None:
    """Its blocks cut q, k and v themselves; nothing there is a permutation of windows."""
    qkv = ("blocks.3.qkv", "linear")
    assert place(qkv).purpose == "projection"
    nodes = [GraphNode(f"{m}/{r}", m, r) for m, r in (qkv, ("blocks.3", "move"))]
    assert Map(nodes).place(["blocks.3/move"], []).purpose == "relayout"


def test_a_permutation_inside_a_norm_is_mentioned() -> None:
    found = place((OURS, "move"), (f"{OURS}.norm1", "norm"))
    assert found == Placement("norm", OURS, permutes=True)


def test_copies_of_the_operands_of_a_product_are_no_product() -> None:
    product = (f"{OURS}.attn", "product")
    assert place(product).purpose == "attention"
    assert place(product, named_only=(f"{OURS}.attn/product",)).purpose == "relayout"


def test_ends_of_the_network_are_told_by_their_place() -> None:
    nodes = [
        GraphNode("a", "anything", "linear"),
        GraphNode("b", "blocks.0.attn", "softmax"),
        GraphNode("c", "", "math"),
    ]
    places = Map(nodes)
    assert [places.place([n], [n]).purpose for n in "abc"] == ["embed", "attention", "head"]
    assert places.place([], []) == Placement("other", "")
    assert not Map(nodes[:1]).known
