"""ImageNet's names of classes: synset ids like n01440764, and the files that list them in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from swin_deploy.core.errors import InputError
from swin_deploy.core.records import load_json
from swin_deploy.data.sources import read_lines

_SHOWN = 5  # mismatches in a message
_SYNSET = re.compile(r"n\d{8}")
CLASS_MAP_HINT = (
    "--class-map with the ids in the order of the classes, one a line "
    "(LOC_synset_mapping.txt), or imagenet_class_index.json"
)


def are_synsets(texts: Iterable[str]) -> bool:
    """Whether every one is a synset id."""
    return all(_SYNSET.fullmatch(text) for text in texts)


def read_class_map(path: Path, classes: int | None = None) -> dict[str, int]:
    """What labels are called -> the index of the class.

    Args:
        path: A text file with a class a line, in the order of the logits, whose first word counts:
            "n01440764 tench, Tinca tinca". Or a JSON object as Keras and PyTorch's tutorials have
            it: {"0": ["n01440764", "tench"], ...}.
        classes: How many the network has; None where that is not known yet.
    """
    if path.suffix.lower() == ".json":
        names = _from_json(path)
    else:
        names = [line.split()[0] for _, line in read_lines(path)]
    if classes is not None and len(names) != classes:
        raise InputError(
            f"{path} has {len(names)} classes, and the network has {classes}",
            "the class map of this network",
        )
    known = {name: index for index, name in enumerate(names)}
    if len(known) < len(names):
        twice = next(name for index, name in enumerate(names) if known[name] != index)
        raise InputError(f"{path} has {twice!r} twice")
    return known


def match_class_map(texts: Sequence[str], known: dict[str, int], where: str) -> dict[str, int]:
    """The class of every text, by a class map."""
    if missing := [text for text in texts if text not in known]:
        more = f", and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise InputError(
            f"{len(missing)} of {len(texts)} labels in {where} are not in the class map: "
            f"{', '.join(map(repr, missing[:_SHOWN]))}{more}",
            "the class map of these labels",
        )
    return {text: known[text] for text in texts}


def order_synsets(texts: Sequence[str], classes: int, where: str) -> tuple[dict[str, int], str]:
    """Synset ids without a map: all of them in sorted order, as every ImageNet-1k network has them.

    Returns:
        The class of every id, and what to say of it.
    """
    if len(texts) != classes:
        raise InputError(
            f"{where} has {len(texts)} synset ids, and the network has {classes} classes: without "
            f"a class map {', '.join(map(repr, sorted(texts)[:_SHOWN]))} could be any",
            CLASS_MAP_HINT,
        )
    ordered = sorted(texts)
    note = f"synset ids count in sorted order: {ordered[0]} is class 0, {ordered[-1]} the last"
    return {text: index for index, text in enumerate(ordered)}, note


def _from_json(path: Path) -> list[str]:
    found = load_json(path, CLASS_MAP_HINT)
    try:
        return [str(found[str(index)][0]) for index in range(len(found))]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f'{path} is no JSON object like {{"0": ["n01440764", "tench"], ...}}: {error!r}',
            CLASS_MAP_HINT,
        ) from error
