"""The classifier of a checkpoint: which of its tensors that is, whatever their names.

Libraries have their head in one place; what people fine-tune has it anywhere, inside the network or
beside it. A head is one linear layer of the channels that leave the last norm, or several in a row.
What could be one in two ways is never guessed: ``--head`` says which.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from swin_deploy.core.errors import InputError, present, some
from swin_deploy.network.checkpoints.dialect import Tensors
from swin_deploy.network.checkpoints.head_companions import (
    HIDDEN_WEIGHT,
    MOST_OF_A_HEAD,
    OF_COSINES,
    plain_again,
    small_parts,
)
from swin_deploy.network.checkpoints.roots import Root
from swin_deploy.network.swin import HEAD_ACTIVATIONS

CHOICES = f"{HEAD_ACTIVATIONS[1]} (or {', '.join((*HEAD_ACTIVATIONS[2:], HEAD_ACTIVATIONS[0]))})"
NONE = "none"  # in place of a name: the network is a backbone
HEAD_NAMES = ("head.weight", "head.bias")  # of a head of one layer, in ours
_LINEAR, _NORM = {"weight", "bias"}, {"running_mean", "running_var"}
_COUNT = "num_batches_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of a head.

    Attributes:
        module: Its name, whole.
        kind: A linear layer, or a BatchNorm1d.
        tensors: Of it, by the last piece of their names.
        before: Modules without tensors between it and the layer before: Dropouts and activation
            functions, which no file tells apart.
    """

    module: str
    kind: Literal["linear", "norm"]
    tensors: Tensors
    before: int = 0

    @property
    def columns(self) -> int:
        """Channels that go in."""
        name = "weight" if self.kind == "linear" else "running_mean"
        return self.tensors[name].shape[-1]

    @property
    def rows(self) -> int:
        """Channels that come out."""
        return self.tensors["weight"].shape[0] if self.kind == "linear" else self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What may be the head.

    Attributes:
        name: What ``--head`` calls it.
        layers: In their order, at least one of them linear.
        own: Whether it is where its library has it.
        beside: Whether it is outside the network.
    """

    name: str
    layers: tuple[Layer, ...]
    own: bool = False
    beside: bool = False

    @property
    def linears(self) -> tuple[Layer, ...]:
        """Those that are linear."""
        return tuple(layer for layer in self.layers if layer.kind == "linear")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Channels between its linear layers."""
        return tuple(layer.rows for layer in self.linears[:-1])

    @property
    def rows(self) -> int:
        """Channels that come out."""
        return self.layers[-1].rows

    def fits(self, channels: int) -> bool:
        """Whether it reads so many, and every layer what the one before gives."""
        widths = [channels, *(layer.rows for layer in self.layers)]
        return [layer.columns for layer in self.layers] == widths[:-1]

    @property
    def names(self) -> set[str]:
        """Of all its tensors, whole."""
        return {f"{layer.module}.{kind}" for layer in self.layers for kind in layer.tensors}

    @property
    def values(self) -> Tensors:
        """Its tensors by whole names, without counters."""
        return {
            f"{layer.module}.{kind}": value
            for layer in self.layers
            for kind, value in layer.tensors.items()
            if kind != _COUNT
        }

    def holding(self, values: Tensors) -> Head:
        """The same head with other ``values``."""
        layers = [
            replace(x, tensors={k: values.get(f"{x.module}.{k}", v) for k, v in x.tensors.items()})
            for x in self.layers
        ]
        return replace(self, layers=tuple(layers))


class Search:
    """All that may be a head in one file.

    Args:
        root: The network.
        renamed: Its tensors in our names, its library's own head among them.
        unknown: Those inside it that its library has not, by whole names.
        own: Whole name of the weight of the library's own head; None if it has none.
    """

    def __init__(
        self, root: Root, renamed: Mapping[str, object], unknown: Tensors, own: str | None
    ) -> None:
        self._prefix = root.prefix.split(".")[:-1]
        self._beside = {*root.beside}
        self.channels = _last_channels(renamed)
        self.has_norm = bool({"norm.weight", "fc_norm.weight"} & renamed.keys())
        theirs = [] if own is None else [_own_head(own, renamed)]
        others: list[Head] = []
        self.passed: list[str] = []
        used = {self._part(name) for name in root.whole.values() if name not in unknown}
        used -= {self._part(name) for name in ([] if own is None else [own])}
        pool = {n: t for n, t in (unknown | root.beside).items() if self._part(n) not in used}
        self._layers = {} if self.channels is None else _layers_of(pool)
        self._simple: list[Layer] = []  # of the parts that have no other layers
        parts: dict[str, list[Layer | None]] = {}
        for module in sorted(self._layers, key=_natural):
            parts.setdefault(self._part(f"{module}."), []).append(self._layers[module])
        for part in parts.values():
            layers = [layer for layer in part if layer is not None]
            found = _heads_in(layers, present(self.channels)) if len(layers) == len(part) else None
            others += found or []
            self._simple += layers if len(layers) == len(part) else []
            if found is None and len(part) <= MOST_OF_A_HEAD:
                fitting = [x for x in layers if x.kind == "linear" and x.columns == self.channels]
                self.passed += [layer.module for layer in fitting]
        if not self.has_norm:
            self.passed, others = [*(head.name for head in others), *self.passed], []
        self.heads = (*theirs, *others)
        self.renormed = sorted(name for name in pool if HIDDEN_WEIGHT.fullmatch(name))
        self._small = small_parts(pool, self._part, self._prefix)

    def _part(self, name: str) -> str:
        """The module of a larger network that a tensor belongs to; a Sequential around all is one.

        It begins where names part from that of the network itself.
        """
        pieces = name.split(".")[:-1] or [name]
        same = 0
        while same < min(len(self._prefix), len(pieces) - 1) and (
            pieces[same] == self._prefix[same]
        ):
            same += 1
        if len(pieces) == same + 1 and pieces[same].isdecimal():
            return ".".join([*pieces[:same], "*"])
        return ".".join(pieces[: same + 1])

    def chosen(self, name: str | None) -> Head | None:
        """The one that is meant; None if there is none.

        Args:
            name: What the user calls it, commas between modules that stand in a row; None to take
                the only one.
        """
        if name == NONE:
            return None
        if name is not None:
            return self._placed(self._named(name))
        if len(self.heads) > 1:
            listed = ", ".join(f"{h.name} ({h.rows} outputs)" for h in self.heads)
            raise InputError(
                f"{len(self.heads)} parts of it could be the head: {listed}", self._hint()
            )
        if not self.heads:
            if self.renormed:
                raise InputError(
                    f"{some(self.renormed)} is of a layer whose weight is computed in every call "
                    "(weight or spectral norm)",
                    f"{plain_again(self.renormed[0])}, and the state_dict saved; or "
                    f"--head {NONE}, for the backbone",
                )
            if self.passed and self.has_norm:
                raise InputError(
                    f"{some(self.passed)} may be its head, with other layers that are neither "
                    "linear nor a BatchNorm in a row",
                    f"--head {NONE}, for the backbone",
                )
            return None
        head = self.heads[0]
        for layer in self._simple:
            follows = layer.kind == "linear" and layer.columns == head.rows != self.channels
            if follows and layer.module not in {own.module for own in head.layers}:
                raise InputError(
                    f"{layer.module} may take what {head.name} gives, as {head.rows} channels: no "
                    "file says whether both are the head, or what stands between them",
                    f"--head {head.name},{layer.module} --head-activation {CHOICES}; or "
                    f"--head {head.name}",
                )
        if not head.own:
            self._require_alone(head)
        return self._placed(head)

    def _require_alone(self, head: Head) -> None:
        """Refuse to guess whether other layers beside the network stand before or behind a head."""
        name = head.name
        if OF_COSINES.fullmatch(name) and "bias" not in head.linears[-1].tensors:
            raise InputError(
                f"{name} has no bias and the name of a metric loss, whose scores are cosines and "
                "no products",
                f"--head {NONE} --outputs embedding, or --head {name} for a plain layer",
            )
        if companions := self.companions(head):
            norms = [x for x in companions if (y := self._layers.get(x)) and y.kind == "norm"]
            first = [f"--head {norms[0]},{name}"] if len(norms) == len(companions) == 1 else []
            raise InputError(
                f"{some(companions)} may stand before or behind {name}: no file says it",
                " or ".join([*first, f"--head {name}, to leave it out"]),
            )

    def companions(self, head: Head) -> list[str]:
        """Other small parts of as many values as go into a head, through it or out of it."""
        if head.own:
            return []
        widths = {1, self.channels, head.rows, *head.hidden}
        own = {layer.module for layer in head.layers}
        return [name for name, sizes in self._small.items() if name not in own and sizes & widths]

    def _placed(self, head: Head) -> Head:
        return replace(head, beside=not head.own and bool(head.names & self._beside))

    def _hint(self) -> str:
        names = [head.name for head in self.heads]
        options = [f"--head {name}" for name in (*names, *([] if names else [NONE]))]
        if len(self.heads) == 2:
            first, second = self.heads
            pairs = [
                (a, b)
                for a, b in ((first, second), (second, first))
                if a.rows == b.layers[0].columns
            ]
            options += [f"--head {a.name},{b.name} --head-activation {CHOICES}" for a, b in pairs]
        return " or ".join(options)

    def _named(self, name: str) -> Head:
        if name in (known := {head.name: head for head in self.heads}):
            return known[name]
        parts = [self._find(part) for part in name.split(",")]
        layers: list[Layer] = []
        for part in parts:
            first, *rest = part.layers
            between = int(first.kind == "linear" and bool(layers))  # what stands there is not told
            layers += [replace(first, before=between), *rest]
        head = Head(name=name, layers=tuple(layers))
        if not (head.linears and head.fits(present(self.channels))):
            widths = ", ".join(f"{x.module} {x.columns} to {x.rows}" for x in layers)
            raise InputError(
                f"{name} is no row of layers behind {self.channels} channels: {widths}",
                self._hint(),
            )
        single = [
            x for x in self.companions(head) if self._small[x] == {1} and x not in name.split(",")
        ]
        if len(parts) > 1 and single:
            raise InputError(
                f"{some(single)} holds one value, as a PReLU or a temperature does: such a head is "
                "not supported",
                f"--head {NONE}, for the backbone",
            )
        return head

    def _find(self, name: str) -> Head:
        for head in self.heads:
            if name in (head.name, *(layer.module for layer in head.linears if not head.hidden)):
                return head
        layer = self._layers.get(name)
        if layer is None or not self.has_norm:
            why = "" if self.has_norm else ": it lacks the norm before one"
            raise InputError(f"no part of it called {name} can be a head{why}", self._hint())
        return Head(name=name, layers=(replace(layer, before=0),))


def _last_channels(renamed: Mapping[str, object]) -> int | None:
    """Channels of the last stage; None where the tensors are no whole network."""
    patches = getattr(renamed.get("patch_embed.proj.weight"), "shape", ())
    stages = [int(m[1]) for name in renamed if (m := re.match(r"layers\.(\d{1,3})\.", name))]
    return patches[0] << max(stages) if patches and stages else None


def _own_head(name: str, renamed: Mapping[str, object]) -> Head:
    tensors = {ours.rpartition(".")[2]: renamed[ours] for ours in HEAD_NAMES if ours in renamed}
    module = name.rpartition(".")[0]
    layer = Layer(module=module, kind="linear", tensors=tensors)  # type: ignore[arg-type]
    return Head(name=module, layers=(layer,), own=True)


def _layers_of(tensors: Tensors) -> dict[str, Layer | None]:
    """The modules that hold tensors; None for those that no head has."""
    modules: dict[str, Tensors] = {}
    for name, value in tensors.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = value
    return {module: _layer(module, found) for module, found in modules.items()}


def _layer(module: str, tensors: Tensors) -> Layer | None:
    values = [value for kind, value in tensors.items() if kind != _COUNT]
    if not module or not all(value.is_floating_point() and value.numel() for value in values):
        return None
    kinds = tensors.keys() - {_COUNT}
    shapes = {tuple(tensors[kind].shape) for kind in kinds - {"weight"}}
    weight = tensors.get("weight")
    if weight is not None and weight.ndim == 2 and tensors.keys() <= _LINEAR:
        return (
            Layer(module=module, kind="linear", tensors=tensors)
            if shapes <= {(len(weight),)}
            else None
        )
    shapes |= set() if weight is None else {tuple(weight.shape)}
    if _NORM <= kinds <= _NORM | _LINEAR and len(shapes) == 1 and len(*shapes) == 1:
        return Layer(module=module, kind="norm", tensors=tensors)
    return None


def _heads_in(layers: Sequence[Layer], channels: int) -> list[Head] | None:
    """The heads of one part of a file; None if it is another network."""
    rows: dict[str, list[Layer]] = {}
    for layer in layers:
        outer, _, last = layer.module.rpartition(".")
        rows.setdefault(f"{outer}.*" if last.isdecimal() else layer.module, []).append(layer)
    heads: list[Head] = []
    for name, row in rows.items():
        head = _in_a_row(name, row)
        one_each = [Head(name=x.module, layers=(x,)) for x in row if x.kind == "linear"]
        alone = len(one_each) == len(row)
        heads += [head] if head.linears and (head.fits(channels) or not alone) else one_each
        if not head.linears:
            return None
    given = {channels, *(layer.rows for layer in layers)}
    if not all(x.fits(x.layers[0].columns) and x.layers[0].columns in given for x in heads):
        return None
    return [head for head in heads if head.fits(channels)]


def _in_a_row(name: str, row: Sequence[Layer]) -> Head:
    """The layers of a Sequential as one head, named after it where there are several."""
    if not name.endswith("*"):
        return Head(name=name, layers=tuple(row))
    places = [int(layer.module.rpartition(".")[2]) for layer in row]
    gaps = [0, *(there - here - 1 for here, there in itertools.pairwise(places))]
    layers = tuple(replace(layer, before=gap) for layer, gap in zip(row, gaps, strict=True))
    linears = [layer.module for layer in row if layer.kind == "linear"]
    outer = name.removesuffix("*").removesuffix(".")
    return Head(name=linears[0] if len(linears) == 1 else outer or ",".join(linears), layers=layers)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts names whatever the order of a file, numbers by their value."""
    return [(int(p), "") if p.isdecimal() and len(p) < 10 else (-1, p) for p in name.split(".")]
