"""What people call a class -> its index among the logits."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from swin_deploy.core.errors import InputError
from swin_deploy.core.records import decode, parse_json

_SHOWN = 5  # mismatches in a message
WITHOUT_LABELS = "the same images without labels measure agreement with FP32: --images"


def parse_class_names(content: bytes, path: Path) -> tuple[str, ...]:
    """The names of a run's classes, by index, of the bytes of its ``labels.json``."""
    names = parse_json(content, path, "export again")
    return decode(tuple[str, ...], names, path, "export again")


def match_classes(
    texts: Sequence[str], classes: int, names: Sequence[str], where: str
) -> dict[str, int]:
    """The class of every text: all of them by name, or all of them by number.

    Case does not matter, and an underscore is a space. What is the name of one class and the number
    of another is refused.

    Args:
        texts: Different ones: names, or numbers from 0 to ``classes`` - 1.
        classes: How many the network has.
        names: Of the classes, by index; empty where they are not known.
        where: They stand, for messages.
    """
    if names and len(names) != classes:
        raise InputError(f"{len(names)} names of classes are known, and the network has {classes}")
    named: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        named.setdefault(_plain(name), []).append(index)
    by_name = {text: named.get(_plain(text), []) for text in texts}
    if all(map(is_number, texts)) and not all(by_name.values()):
        _refuse(where, classes, [_not_a_number(text, classes, by_name[text]) for text in texts])
        return {text: int(text) for text in texts}
    _refuse(where, classes, [_not_a_name(text, classes, by_name[text], names) for text in texts])
    return {text: found[0] if found else int(text) for text, found in by_name.items()}


def is_number(text: str) -> bool:
    """Whether it can be the number of a class."""
    return text.isascii() and text.isdecimal()


def _not_a_number(text: str, classes: int, named: list[int]) -> str | None:
    if int(text) >= classes:
        return f"{text!r} is no number from 0 to {classes - 1}"
    return _two_readings(text, classes, named)


def _not_a_name(text: str, classes: int, named: list[int], names: Sequence[str]) -> str | None:
    if len(named) > 1:
        return f"{text!r} is the name of classes {named[0]} and {named[1]}"
    if named:
        return _two_readings(text, classes, named)
    if not names:
        valid = is_number(text) and int(text) < classes
        return None if valid else f"{text!r} is no number from 0 to {classes - 1}"
    near = difflib.get_close_matches(_plain(text), [_plain(name) for name in names], n=1)
    return f"{text!r} is no class" + (f" (nearest: {near[0]!r})" if near else "")


def _two_readings(text: str, classes: int, named: list[int]) -> str | None:
    if not is_number(text) or not named or int(text) >= classes or int(text) == named[0]:
        return None
    return f"{text!r} is the name of class {named[0]} and the number of class {int(text)}"


def _refuse(where: str, classes: int, problems: list[str | None]) -> None:
    found = [problem for problem in problems if problem is not None]
    if not found:
        return
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise InputError(
        f"{len(found)} of {len(problems)} labels in {where} are not classes of the network, which "
        f"has {classes}: {'; '.join(found[:_SHOWN])}{more}",
        f"names of classes or their numbers; {WITHOUT_LABELS}",
    )


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().replace("_", " ").split())
