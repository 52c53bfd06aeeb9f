"""Names of classes, wherever they stand: a file of the user's, or an entry beside the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import InputError
from swin_deploy.core.own_files import read_plain
from swin_deploy.core.records import parse_json, reading
from swin_deploy.network.checkpoints.pickles import Inert, pairs_of

# What trainers call them, in any case: a list by index, index -> name, or name -> index.
ENTRIES = ("classes", "class_names", "label_names", "idx_to_class", "class_to_idx", "id2label")
# Where trainers put that beside the tensors; mmengine's ``dataset_meta`` lies in its ``meta``.
_HOLDERS = ("meta", "dataset_meta", "hyper_parameters", "args", "config")
_DEEPEST = 2  # holders within one another
_LONGEST = 1000  # characters of a name
_HINT = "one name a line; a JSON list of names, or of {index: name}; or a folder of class folders"


def read_names(path: Path) -> tuple[str, ...]:
    """The names of classes in a file, or of the class folders in a folder; by index.

    Args:
        path: A text file with one name a line; ``.json`` with a list, index -> name or name ->
            index; or a folder whose folders are classes 0, 1, ... in sorted order, as in
            torchvision's ``ImageFolder``, but without hidden ones.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", _HINT)
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not found:
            raise InputError(f"{path} holds no class folders", _HINT)
        return tuple(found)
    content = read_plain(path)
    if path.suffix.lower() == ".json":
        names = as_names(parse_json(content, path, _HINT))
        if names is None:
            raise InputError(f"{path} holds no names of classes by index", _HINT)
        return names
    with reading(path, "a text file in UTF-8", _HINT):
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise InputError(f"{path}: line {lines.index('') + 1} is empty, and has no name", _HINT)
    if not lines or as_names(lines) is None:
        raise InputError(f"{path} holds no names of classes", _HINT)
    return tuple(lines)


def as_names(value: object) -> tuple[str, ...] | None:
    """Names by index: of a list, of index -> name, or of name -> index; None of all else."""
    if isinstance(value, Inert):
        value = _entries_of(value)
    if isinstance(value, list | tuple):
        return tuple(value) if value and all(map(_is_name, value)) else None
    if not isinstance(value, dict) or not value:
        return None
    pairs: list[tuple[Any, Any]] = list(value.items())
    if all(_is_name(key) and type(index) is int for key, index in pairs):
        pairs = [(index, name) for name, index in pairs]
    by_index = {int(k): name for k, name in pairs if _is_index(k) and _is_name(name)}
    if len(by_index) != len(pairs) or by_index.keys() != set(range(len(pairs))):
        return None
    return tuple(by_index[index] for index in range(len(pairs)))


def names_beside(entries: Mapping[Any, Any], depth: int = 0) -> dict[str, tuple[str, ...]]:
    """Names of classes that a checkpoint has beside its tensors, by the entry they stand in.

    Args:
        entries: Of one container.
        depth: Holders around it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for key, value in entries.items():
        if not isinstance(key, str):
            continue
        if key.lower() in ENTRIES and (names := as_names(value)) is not None:
            found[key] = names
        elif key.lower() in _HOLDERS and depth < _DEEPEST:
            held = value if isinstance(value, dict) else _entries_of(value)
            below = names_beside(held or {}, depth + 1)
            found |= {f"{key}.{name}": names for name, names in below.items()}
    return found


def _entries_of(value: object) -> dict[Any, Any] | None:
    """What an object of a pickle holds: an ordered dict, or the attributes of a namespace."""
    if not isinstance(value, Inert):
        return None
    if isinstance(value.state, dict):
        return value.state
    pairs = value.arguments[0] if value.arguments else []
    if value.name == "collections.OrderedDict" and isinstance(pairs, list):
        whole = [pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        return pairs_of([item for pair in whole for item in pair]) | value.entries
    return value.entries or None


def _is_name(value: object) -> bool:
    """Whether it is text that a record can keep: half of a surrogate pair is none."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


def _is_index(value: object) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isascii() and value.isdecimal())
