"""What to quantise for which kind of runtime, and which of a graph's places that makes.

docs/int8.md has what NVIDIA's compiler makes of every placement that was tried.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from swin_deploy.errors import ConfigError
from swin_deploy.graph.int8.places import GEMM_KINDS, Attention, Gemm, GemmKind, Places

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


RECIPES: dict[str, Recipe] = {
    "tensorrt": Recipe(attention=True, mlp="smaller", surrounding="fp16", integer_bias=False),
    "onnxruntime": Recipe(attention=False, mlp="all", surrounding="fp32", integer_bias=True),
}


def recipe_for(kind: str, also: Iterable[GemmKind] = ()) -> Recipe:
    """The recipe of a kind of target, with further kinds of products."""
    recipe = RECIPES[kind]
    return replace(recipe, kinds=recipe.kinds | frozenset(also))


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of one graph that are quantised."""

    gemms: tuple[Gemm, ...]
    attentions: tuple[Attention, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them."""
        return (*(g.name for g in self.gemms), *(a.name for a in self.attentions))


def choose_places(
    places: Places,
    recipe: Recipe,
    batch: int,
    keep: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Placement:
    """Apply a recipe to a graph.

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

    Raises:
        ConfigError: A pattern fits no place, or nothing is left to quantise.
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
        if recipe.attention and a.name not in kept and quantised_attention_fuses(a)
    ]
    if not gemms:
        raise ConfigError(
            f"nothing is left to quantise: of {len(places.gemms)} products with weights, none is "
            f"{', '.join(k for k in GEMM_KINDS if k in recipe.kinds)} and not kept by "
            f"{', '.join(keep) or 'anything'}",
            "--precision fp16",
        )
    placement = Placement(tuple(gemms), tuple(attentions))
    if only is None:
        return placement
    wanted = matching(placement.names, only)
    return Placement(
        tuple(g for g in gemms if g.name in wanted),
        tuple(a for a in attentions if a.name in wanted),
    )


def quantised_attention_fuses(attention: Attention) -> bool:
    """Whether NVIDIA's compilers make one kernel of it with INT8 operands."""
    return attention.head_size in _HEAD_SIZES and attention.keys <= _MOST_KEYS


def matching(names: Sequence[str], patterns: Iterable[str]) -> set[str]:
    """The names that any of the patterns fits.

    Raises:
        ConfigError: A pattern fits none.
    """
    found: set[str] = set()
    for pattern in patterns:
        fits = fnmatch.filter(names, pattern)
        if not fits:
            raise ConfigError(
                f"no product or attention is called {pattern!r}",
                f"one of {', '.join(names[:4])}, ... or a pattern as *.mlp.fc2",
            )
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
