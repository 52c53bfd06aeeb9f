"""Follows TensorRT objects through a source text, and asks the real bindings about every name.

A small interpreter of the syntax tree: the value of an expression is what is known of its type.
Methods and properties say in their pybind11 docstrings what they take and return. Whatever is not
followed is a problem, never skipped: an attribute of an unknown object, code that is never reached,
a TensorRT object handed to code that is not looked at.

    python tensorrt_contract.py MODULE < {"label": "source"} > {"label": {"problems": ...}}
"""

from __future__ import annotations

import ast
import re
from collections import ChainMap
from dataclasses import dataclass, field
from typing import Any

PLAIN, UNKNOWN, MISSING = "not from TensorRT", "unknown", object()
PLAIN_TYPES = re.compile(r"None|(typing\.Supports)?(int|Int|float|Float)|bool|str|bytes")
# What may leave for code that is not followed: numbers and bytes in the clothes of a class.
VALUES = ("Dims", "IHostMemory")
COPIES = ("tuple", "list", "sorted", "reversed")
ASKS = ("hasattr", "isinstance", "int", "str", "repr", "len", "bool", "bytes", "print")

Env = ChainMap[str, Any]


@dataclass(frozen=True)
class Live:
    """The module itself, or a class or function of it; ``bound`` if it has its self already."""

    value: Any
    bound: bool = False


@dataclass(frozen=True)
class Instance:
    of: Any


@dataclass(frozen=True)
class Many:
    item: Any


@dataclass(eq=False)
class Own:
    """A class of our source, and its one instance. ``base`` is a TensorRT class, or None."""

    name: str
    base: type | None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A function of our source, ``owner`` first among its arguments if it is a method."""

    node: ast.FunctionDef
    env: Env
    owner: Own | None = None

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    optional: bool


def signatures(function: Any) -> list[tuple[list[Parameter], str]]:
    """Every overload in a pybind11 docstring, with its self, and the type that it returns."""
    name = getattr(function, "__name__", "")
    lines = re.findall(r"^(?:\d+\. )?(\w*)\((.*)\) -> (.+)$", function.__doc__ or "", re.MULTILINE)
    return [
        (parameters(inside), result) for called, inside, result in lines if called in ("", name)
    ]


def parameters(text: str) -> list[Parameter]:
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[(<{") - (char in "])>}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    found = (re.match(r"\s*(\*{0,2}\w+)(?:: ([^=]+))?(=.*)?", part) for part in parts)
    return [Parameter(m[1], (m[2] or "").strip(), bool(m[3])) for m in found if m]


class Walk:
    """One source text against one version of the bindings."""

    def __init__(self, trt: Any, source: str) -> None:
        self.trt = trt
        self.prefix = f"{trt.Builder.__module__}."
        self.members = {  # unmistakable names: on anything else they mean that we lost track
            name
            for owner in vars(trt).values()
            if isinstance(owner, type) and owner.__module__ == trt.Builder.__module__
            for name in vars(owner)
            if "_" in name.strip("_")
        }
        self.problems: dict[str, None] = {}
        self.checked: set[ast.AST] = set()
        self.seen: set[ast.AST] = set()
        self.gates: dict[str, bool] = {}
        self.functions: list[Function] = []
        self.done: set[ast.AST] = set()
        self.active: list[ast.AST] = []
        self.returned: list[list[Any]] = []
        tree = ast.parse(source)
        self.body(tree.body, ChainMap())
        for function in self.functions:  # grows while it is read
            ready = UNKNOWN not in self.expected(function).values()
            if ready and function.node not in self.done:
                self.run(function, [], {})
        self.nodes = list(ast.walk(tree))
        for node in self.nodes:
            if isinstance(node, ast.Attribute) and node not in self.seen:
                self.problem(node, "is never reached: nothing here calls it with known arguments")

    def problem(self, node: ast.AST, text: str) -> str:
        self.problems[f"line {node.lineno}: {ast.unparse(node)} {text}"] = None
        return UNKNOWN
