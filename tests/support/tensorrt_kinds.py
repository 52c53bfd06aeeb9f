"""What a walk over source text can know of a value: the kinds, and how they combine."""

from __future__ import annotations

import ast
import re
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PLAIN, UNKNOWN = "not of TensorRT", "unknown"

Env = ChainMap[str, Any]


@dataclass(frozen=True)
class Known:
    """An object of a TensorRT class, or if not ``made`` the class itself; "" is the module."""

    of: str
    made: bool = True


@dataclass(frozen=True)
class Method:
    signatures: list[str]
    bound: bool


@dataclass(frozen=True)
class Many:
    item: Any


@dataclass(eq=False)
class Own:
    """A class of our source, and its instance; ``of`` is the TensorRT class below it, or None."""

    of: str | None
    attributes: dict[str, Any]


@dataclass(eq=False)
class Function:
    """A function of our source; ``owner`` is its self."""

    node: ast.FunctionDef
    env: Env
    owner: Own | None


def parameters(signature: str) -> list[tuple[str, str, bool]]:
    """Name, type, and whether there is a default: ``(self: Builder, flags: int = 0) -> ...``."""
    parts, depth = [""], 0
    for char in signature.rpartition(" -> ")[0][1:-1]:
        depth += (char in "[(<{") - (char in "])>}")
        parts[-1] += char
        if char == "," and depth == 0:
            parts.append("")
    found = (re.match(r"\s*(\w+)(?:: (.+?))?( = .*)?,?$", part) for part in parts)
    return [(match[1], match[2] or "", bool(match[3])) for match in found if match]


def arguments_of(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def one_of(kinds: Sequence[Any]) -> Any:
    """What a value is that may be any of these; None or a number beside an object is no news."""
    ours = [kind for kind in kinds if kind is not PLAIN]
    return PLAIN if not ours else ours[0] if all(k == ours[0] for k in ours) else UNKNOWN


def all_of(kinds: Sequence[Any]) -> Any:
    item = UNKNOWN if len({kind is PLAIN for kind in kinds}) == 2 else one_of(kinds)
    return item if item in (PLAIN, UNKNOWN) else Many(item)


def element(kind: Any) -> Any:
    if isinstance(kind, Many):
        return kind.item
    return PLAIN if kind in (PLAIN, Known("Dims")) else UNKNOWN
