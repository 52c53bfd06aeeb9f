"""All tensors of a file -> those of the one network to load, under whatever prefix it stands.

A network is known by the weight of its patch embedding, which every one has exactly once. What
stands before that name is the prefix of the network, and all else in the file is another part of a
larger model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from swin_deploy.core.errors import InputError, some
from swin_deploy.network.checkpoints.dialect import Dialect, Tensors, rename_key
from swin_deploy.network.checkpoints.dialects import KNOWN, detect_dialect
from swin_deploy.network.checkpoints.kin import disguised, kin_of

# What wrappers put into the middle of names: FSDP, activation checkpointing, torch.compile.
_MARKS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
# What stands beside the level that holds the rest: OpenMMLab's head, MaskFormer's norms.
_BESIDE = {"backbone.": "head.", "model.": "hidden_states_norms."}

# The first piece of any name that a library gives a tensor of the network itself. What begins
# otherwise beside it is another module: a loss, a neck, a decoder.
_OWN = re.compile(
    r"(patch_embed|layers(_\d+)?|norm\d?|head|absolute_pos_embed|mask_token"  # authors, timm
    r"|features|stages|stage\d|mlp_head"
    r"|swin|swinv2|embeddings|encoder|layernorm|classifier|hidden_states_norms"
    r"|conv_proj|heads|class_token|cls_token|pos_embed|blocks|pre_logits|head_dist|dist_token"
    r"|norm_pre|fc_norm|reg_token|register_tokens)(\.|$)"
)
_FLAT = re.compile(r"^(layers)_(\d+)\.")  # timm's features_only has no lists of modules
_PATCHES = "patch_embed.proj.weight"  # in our names
_RENAMES = {
    rename.pattern: rename
    for dialect in KNOWN
    for rename in dialect.renames
    if rename.name.startswith("patch_embed.")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One network of a file.

    Attributes:
        prefix: Of its names; empty if it is the file.
        tensors: By the names that its library gives them.
        dialect: Of those names.
        marks: Of wrappers, that stood in the middle of names.
        beside: All other tensors, by whole names.
        whole: Names as in ``tensors`` -> as they stand in the file, without the marks.
    """

    prefix: str
    tensors: Tensors
    dialect: Dialect
    marks: tuple[str, ...]
    beside: Tensors
    whole: dict[str, str]

    @property
    def opened(self) -> tuple[str, ...]:
        """What was taken off the names, for people."""
        return (*([self.prefix] if self.prefix else []), *self.marks)


def find_root(tensors: Tensors, prefix: str | None = None) -> Root:
    """The network in a file.

    Args:
        tensors: All of the file, in its innermost container.
        prefix: The one to take, with or without the dot at its end; None where only one fits.

    Raises:
        InputError: None is known, several are, or there is none at ``prefix``.
    """
    tensors, marks = _without_marks(tensors)
    known = [*dict.fromkeys(_prefixes(tensors))]
    prefixes = known or _shared(tensors)
    roots = {one: _root_at(tensors, one, marks) for one in prefixes}
    fitting = {one: root for one, root in roots.items() if root is not None}
    if not known:  # one of a kind that is refused, whose patches nobody knows
        fitting = dict([*fitting.items()][:1])
    loadable = {one: root for one, root in fitting.items() if not root.dialect.refusal}
    if prefix is not None:
        fitting = _at(fitting, prefix)
    elif loadable:
        fitting = loadable
    if len(fitting) > 1:
        names = [one or "''" for one in fitting]
        raise InputError(
            f"it holds {len(fitting)} networks, at the prefixes {' and '.join(names)}",
            " or ".join(f"--prefix {one}" for one in names),
        )
    if not fitting:
        raise _unknown(tensors)
    root = next(iter(fitting.values()))
    kin = kin_of(root.tensors) if root.dialect.refusal else disguised(root.tensors)
    if kin is not None:
        raise InputError(f"it is {kin.what}", kin.hint)
    return root


def _at(fitting: Mapping[str, Root], prefix: str) -> dict[str, Root]:
    wanted = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    if wanted not in fitting:
        known = " or ".join(f"--prefix {one or repr(one)}" for one in fitting)
        raise InputError(
            f"there is no network that is known here at the prefix {prefix!r}",
            known or "no --prefix",
        )
    return {wanted: fitting[wanted]}


def _without_marks(tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    seen = [mark for mark in _MARKS if any(mark in name for name in tensors)]
    plain: Tensors = {}
    for name, tensor in tensors.items():
        short = name
        for mark in seen:
            short = short.replace(mark, "")
        if short in plain:
            raise InputError(f"two tensors are both {short}, one of them {name}")
        plain[short] = tensor
    return plain, tuple(seen)


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """What stands before the names of patch embeddings, the shortest of each."""
    for name in names:
        parts = name.split(".")
        starts = (n for n in range(len(parts)) if _is_patches(".".join(parts[n:])))
        if (start := next(starts, None)) is not None:
            yield "".join(f"{part}." for part in parts[:start])


def _is_patches(key: str) -> bool:
    return rename_key(_RENAMES.values(), key) == _PATCHES


def _shared(names: Iterable[str]) -> list[str]:
    """Prefixes that all names have, the empty one first."""
    first, *others = [name.split(".")[:-1] for name in names]
    prefixes = [""]
    for number, piece in enumerate(first):
        if any(other[number : number + 1] != [piece] for other in others):
            break
        prefixes.append(f"{prefixes[-1]}{piece}.")
    return prefixes


def _root_at(tensors: Tensors, prefix: str, marks: tuple[str, ...]) -> Root | None:
    """The network at a prefix; None if no library that is known names its tensors so."""
    whole = {
        _FLAT.sub(r"\1.\2.", name.removeprefix(prefix)): name
        for name in tensors
        if name.startswith(prefix) and _OWN.match(name.removeprefix(prefix))
    }
    for level, part in _BESIDE.items():
        outer = prefix.removesuffix(level)
        if outer == prefix:
            continue
        others = {n.removeprefix(outer): n for n in tensors if n.startswith(outer + part)}
        if not others.keys() & whole.keys():  # else they are one head of two, see ``heads``
            whole |= others
    dialect = detect_dialect(whole)
    if dialect is None:
        return None
    own, taken = {short: tensors[name] for short, name in whole.items()}, {*whole.values()}
    beside = {name: tensor for name, tensor in tensors.items() if name not in taken}
    return Root(
        prefix=prefix, tensors=own, dialect=dialect, marks=marks, beside=beside, whole=whole
    )


def _unknown(tensors: Tensors) -> InputError:
    """What the file is instead, as far as its names tell."""
    if (kin := kin_of(tensors)) is not None:
        return InputError(f"it is {kin.what}", kin.hint)
    return InputError(
        f"it is of no known dialect; its keys begin with {some(sorted(tensors))}",
        "weights of Microsoft, timm, torchvision, Hugging Face or OpenMMLab",
    )
