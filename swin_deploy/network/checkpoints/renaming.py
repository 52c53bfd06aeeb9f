"""The tensors of one network, by whatever names -> the same in our names, its head included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.core.errors import ConfigError, InputError, some
from swin_deploy.network.checkpoints.dialect import Tensors, rename_key
from swin_deploy.network.checkpoints.files import checked_values
from swin_deploy.network.checkpoints.head_layers import activation_of, summary, to_ours
from swin_deploy.network.checkpoints.heads import HEAD_NAMES, Head, Search
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.roots import Root
from swin_deploy.network.swin import HeadActivation, SwinConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """One network of a file.

    Attributes:
        tensors: Weights and buffers in our names, as the file has them, but for a head of other
            names.
        head: None for a backbone.
        dropped: Whole names of what is no part of it.
        notes: For people.
    """

    tensors: Tensors
    head: Head | None
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def rename(path: Path, root: Root, options: LoadOptions) -> Renamed:
    """Name the tensors of a network as ours, and find its head.

    Args:
        path: The file, for errors.
        root: The network.
        options: Which head is meant, where that is said.
    """
    dialect = root.dialect
    renamed: Tensors = {}
    unknown: Tensors = {}
    origins: dict[str, str] = {}
    with about(path):
        prepared = dialect.prepare(root.tensors)
    for key, tensor in prepared.items():
        name, whole = rename_key(dialect.renames, key), root.whole.get(key, root.prefix + key)
        if name is None:
            unknown[whole] = tensor
        elif name in renamed:
            raise InputError(f"{path}: two tensors are both {name}, one of them {key}")
        else:
            renamed[name], origins[name] = tensor, whole
    head, left, notes = None, {*root.beside}, []
    own = renamed.get(HEAD_NAMES[0])
    if dialect.family == "ViT":
        if options.head is not None or options.head_activation is not None:
            raise ConfigError(f"{path} is a ViT, whose head is known", "no --head")
    elif own.ndim == 2 if own is not None else HEAD_NAMES[1] not in renamed:
        with about(path):
            search = Search(root, renamed, unknown, origins.get(HEAD_NAMES[0]))
            head = search.chosen(options.head)
        if head is None and search.passed and options.head is None:
            notes.append(f"{some(search.passed)} is no head: the norm before one is not there")
        if (
            head is not None
            and options.head is not None
            and (companions := search.companions(head))
        ):
            notes.append(f"{some(companions)} beside it is no part of it and left out")
        others = {name for one in search.heads for name in one.names}
        taken = set() if head is None else head.names
        left |= (others if options.head is not None else set()) - taken
        unknown = {name: value for name, value in unknown.items() if name not in others | taken}
        left -= taken
        if head is None or not head.own:  # it is another one, or none
            renamed = {name: value for name, value in renamed.items() if name not in HEAD_NAMES}
    if unknown:
        raise InputError(
            f"{path} has {len(unknown)} tensors that no {dialect.family} of {dialect.name} has: "
            f"{some(sorted(name.removeprefix(root.prefix) for name in unknown))}"
        )
    dropped = tuple(name for name in (*root.beside, *sorted(left - {*root.beside})) if name in left)
    return Renamed(tensors=renamed, head=head, dropped=dropped, notes=tuple(notes))


def add_head(
    path: Path, renamed: Renamed, tensors: Tensors, options: LoadOptions, notes: list[str]
) -> HeadActivation:
    """Put a head of other names among the tensors.

    Args:
        path: The file, for errors.
        renamed: The network.
        tensors: In our names, checked; get those of the head.
        options: What is said of the head.
        notes: Get where it stood.

    Returns:
        What stands between its layers.
    """
    head = renamed.head
    if head is None:
        if options.head_activation is not None:
            raise InputError(f"{path} has no head", "no --head-activation")
        return "none"
    wanted, known = options.wanted, None
    if isinstance(wanted, SwinConfig) and wanted.head_hidden == head.hidden:
        known = wanted.head_activation
    with about(path):
        activation = activation_of(head, options.head_activation, known)
        if not head.own:
            values, _ = checked_values(path, head.values)
            ours, more = to_ours(head.holding(values), activation)
            tensors |= ours
            notes += [summary(head, activation), *more]
    return activation


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Errors within are of that file."""
    try:
        yield
    except InputError as error:
        if error.problem.startswith(str(path)):
            raise
        raise InputError(f"{path}: {error.problem}", error.hint) from error
