"""The layers of a head -> linear layers of ours, and what stands between them."""

from __future__ import annotations

import itertools

from torch import Tensor

from swin_deploy.core.errors import InputError, some
from swin_deploy.network.checkpoints.dialect import Tensors
from swin_deploy.network.checkpoints.heads import CHOICES, Head, Layer
from swin_deploy.network.swin import HeadActivation

_NOTHING: HeadActivation = "none"
_EPS = 1e-5  # of BatchNorm1d as PyTorch makes it; no file tells


def activation_of(
    head: Head, said: HeadActivation | None, known: HeadActivation | None
) -> HeadActivation:
    """What stands between the linear layers of a head.

    Args:
        head: With one linear layer at least.
        said: By the user; None if nothing was.
        known: Of the network that it has to be; None if none is named.
    """
    # Neighbours may be of a ModuleList, with a function between them that is no module.
    gaps = [gap for gap, _ in _gaps(head)]
    if not gaps:
        if said not in (None, _NOTHING):
            raise InputError(f"{head.name} has one linear layer", "no --head-activation")
        return _NOTHING
    if any(gaps) and not all(gaps):
        raise InputError(
            f"{head.name} has something between some of its linear layers and nothing between "
            "others, which is not supported"
        )
    if (found := said or known) is None:
        raise InputError(
            f"{head.name} is a head of {len(gaps) + 1} linear layers, and no file says which "
            "activation function stands between them",
            f"--head-activation {CHOICES}",
        )
    return found


def _gaps(head: Head) -> list[tuple[int, list[tuple[int, int, Layer]]]]:
    """Between two linear layers each: modules without tensors, and the norms.

    Of a norm, how many of those modules stand before it and how many behind.
    """
    gaps = []
    last, *_ = head.linears
    start = head.layers.index(last) + 1
    for linear in head.linears[1:]:
        end = head.layers.index(linear)
        total = sum(layer.before for layer in head.layers[start : end + 1])
        norms, seen = [], 0
        for layer in head.layers[start:end]:
            seen += layer.before
            norms.append((seen, total - seen, layer))
        gaps.append((total, norms))
        start = end + 1
    return gaps


def to_ours(head: Head, activation: str) -> tuple[Tensors, list[str]]:
    """The head in our names, each BatchNorm folded into a linear layer beside it; and notes.

    Args:
        head: Its values float32.
        activation: Between its linear layers.
    """
    linears = {x.module: _double(x) for x in head.linears}
    first, last = head.layers.index(head.linears[0]), head.layers.index(head.linears[-1])
    folds: list[tuple[Layer, Layer, bool]] = [  # norm, linear layer, whether it comes behind that
        (norm, head.linears[0], False) for norm in head.layers[:first][::-1]
    ]
    for (a, b), (_, norms) in zip(itertools.pairwise(head.linears), _gaps(head), strict=True):
        behind = [norm for seen, _, norm in norms if not seen or activation == _NOTHING]
        folds += [(norm, a, True) for norm in behind]
        for _, left, norm in reversed(norms):
            if norm not in behind:
                if left:
                    raise InputError(
                        f"{norm.module} is a BatchNorm, and no file says on which side of the "
                        "activation function it stands",
                        "--head none --outputs embedding, and the head as it is behind that",
                    )
                folds.append((norm, b, False))
    trailing = head.layers[last + 1 :]
    if any(layer.before for layer in trailing):
        raise InputError(f"{trailing[-1].module} stands behind what no file tells, after the head")
    folds += [(norm, head.linears[-1], True) for norm in trailing]
    for norm, linear, is_behind in folds:
        linears[linear.module] = _folded(norm, *linears[linear.module], is_behind)
    ours: Tensors = {}
    for index, (weight, bias) in enumerate(linears.values()):
        name = "head" if len(linears) == 1 else f"head.{2 * index}"
        ours |= {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
    notes = [
        f"{norm.module} is a BatchNorm, folded into {linear.module}: with eps {_EPS:g}, as no file "
        "tells it"
        for norm, linear, _ in folds
    ]
    bare = [x.module for x in head.linears if "bias" not in x.tensors]
    return ours, notes + ([f"{some(bare)} has no bias"] if bare else [])


Pair = tuple[Tensor, Tensor]  # weight (rows, columns) and bias (rows,), float64


def _double(layer: Layer) -> Pair:
    weight = layer.tensors["weight"].double()
    bias = layer.tensors.get("bias")
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.double()


def _folded(norm: Layer, weight: Tensor, bias: Tensor, behind: bool) -> Pair:
    """A linear layer and a norm, before or behind it, as one linear layer."""
    values = {kind: value.double() for kind, value in norm.tensors.items()}
    scale = (values["running_var"] + _EPS).rsqrt() * values.get("weight", 1.0)
    shift = values.get("bias", 0.0) - values["running_mean"] * scale
    if behind:
        return weight * scale[:, None], bias * scale + shift
    return weight * scale, bias + weight @ shift


def summary(head: Head, activation: str) -> str:
    """What was taken for the head, for people."""
    where = ", beside the network" if head.beside else ""
    more = ""
    place = head.layers[0].module.rpartition(".")[2]
    if place.isdecimal() and int(place) > 0:
        more = (
            ", behind what has no tensors and is taken for Dropouts: with a function there it is "
            "wrong"
        )
    if head.hidden:
        more += f", linear layers with {activation} between them"
    return f"head: {head.name}{where}{more}"
