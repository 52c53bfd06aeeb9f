"""Follows TensorRT objects through a source text, and asks the real bindings about every name.

A small interpreter of the syntax tree: the value of an expression is what is known of its type.
Methods and properties say in their pybind11 docstrings what they take and return. What cannot be
followed is a problem, never skipped: an attribute of an unknown object, code that nothing reaches,
a TensorRT object handed to code that is not looked at.

    python tensorrt_contract.py MODULE < {"label": "source"} > {"label": {"problems": [...], ...}}
"""

from __future__ import annotations

import ast
import re
from collections import ChainMap
from collections.abc import Sequence
from typing import Any, NamedTuple

PLAIN, UNKNOWN = "not of TensorRT", "unknown"
PLAIN_TYPES = re.compile(r"None|(typing\.Supports)?([Ii]nt|[Ff]loat)|bool|str|bytes")
VALUES = ("Dims", "IHostMemory")  # numbers and bytes: these may leave for code not looked at
COPIES = ("tuple", "list", "sorted", "reversed")
ASKS = ("hasattr", "isinstance", "int", "str", "repr", "len", "bool", "bytes", "print")


class Live(NamedTuple):
    value: Any
    bound: bool  # the module, a class, a function


class Instance(NamedTuple):
    of: type


class Many(NamedTuple):
    item: Any


class Parameter(NamedTuple):
    name: str
    type: str
    optional: bool


Env = ChainMap[str, Any]


class Own(NamedTuple):
    """A class of our source and its instance; ``base`` is the TensorRT class below it, or None."""

    name: str
    base: type | None
    attributes: dict[str, Any]


class Function(NamedTuple):
    """A function of our source; ``owner`` is its self."""

    node: ast.FunctionDef
    env: Env
    owner: Own | None


def signatures(function: Any) -> list[tuple[list[Parameter], str]]:
    """Every overload in a pybind11 docstring: parameters, self included, and returned type."""
    found = re.findall(r"^(?:\d+\. )?(\w*)\((.*)\) -> (.+)$", function.__doc__ or "", re.MULTILINE)
    names = ("", getattr(function, "__name__", ""))
    return [(_parameters(text), result) for name, text, result in found if name in names]


def _parameters(text: str) -> list[Parameter]:
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[(<{") - (char in "])>}")
        parts[-1] += char
        if char == "," and depth == 0:
            parts.append("")
    found = (re.match(r"\s*(\*{0,2}\w+)(?:: ([^=,]+))?(=?)", part) for part in parts)
    return [Parameter(m[1], (m[2] or "").strip(), bool(m[3])) for m in found if m]


def _element(kind: Any) -> Any:
    match kind:
        case Many(item):
            return item
        case Instance(of) if of.__name__ == "Dims":
            return PLAIN
    return PLAIN if kind is PLAIN else UNKNOWN


def _either(kinds: Sequence[Any]) -> Any:
    ours = [kind for kind in kinds if kind is not PLAIN]
    return PLAIN if not ours else ours[0] if all(k == ours[0] for k in ours) else UNKNOWN


def _collection(kinds: Sequence[Any]) -> Any:
    item = _either(kinds)
    if len({kind is PLAIN for kind in kinds}) == 2:
        return UNKNOWN
    return item if item in (PLAIN, UNKNOWN) else Many(item)


class Walk:
    """One source text against one version of the bindings."""

    def __init__(self, trt: Any, source: str) -> None:
        self.trt = trt
        self.package = trt.Builder.__module__
        self.problems: dict[str, None] = {}  # in order, without repetition
        self.checked: set[ast.AST] = set()
        self.seen: set[ast.AST] = set()
        self.gates: dict[str, bool] = {}
        self.functions: list[Function] = []
        self.active: list[tuple[ast.AST, list[Any]]] = []
        self.reached: set[ast.AST] = set()
        tree = ast.parse(source)
        self.nodes = list(ast.walk(tree))
        self.body(tree.body, ChainMap())
        for function in self.functions:  # grows while it is read
            if function.node not in self.reached and UNKNOWN not in self.expected(function):
                self.run(function, [], {})
        for node in self.nodes:
            if isinstance(node, ast.Attribute) and node not in self.seen:
                self.problem(node, "is never reached with known arguments")

    def problem(self, node: Any, text: str) -> Any:
        self.problems[f"line {node.lineno}: {ast.unparse(node)} {text}"] = None
        return UNKNOWN

    def skip(self, *nodes: ast.AST | None) -> None:
        self.seen.update(inner for node in nodes if node for inner in ast.walk(node))

    # What the bindings say

    def resolve(self, text: str) -> Any:
        """The type that a docstring names; one registered later has its C++ name there."""
        if PLAIN_TYPES.fullmatch(text):
            return PLAIN
        if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", text):
            return _collection([self.resolve(inner[1])])
        value: Any = self.trt
        for name in text.removeprefix(f"{self.package}.").split("::")[-1].split("."):
            value = getattr(value, name, None) or getattr(value, name[1:], None)
        return Instance(value) if isinstance(value, type) else UNKNOWN

    def live(self, value: Any, bound: bool = False) -> Any:
        if isinstance(value, property):
            found = signatures(value.fget)
            return self.resolve(found[0][1]) if found else UNKNOWN
        if isinstance(value, type) or callable(value):
            return Live(value, bound)
        return Instance(type(value)) if type(value).__module__ == self.package else PLAIN

    def has(self, kind: Any, name: str) -> bool:
        owner = kind[0]
        return any(name in vars(place) for place in getattr(owner, "__mro__", [owner]))

    def misfit(self, signature: list[Parameter], given: list[Any], named: dict[str, Any]) -> str:
        """Why these arguments do not fit, or nothing."""
        names = [parameter.name for parameter in signature]
        if len(given) > len(names):
            return f"takes {len(names)} arguments, not {len(given)}"
        filled = dict(zip(names, given, strict=False)) | named
        if unknown := named.keys() - set(names[len(given) :]):
            return f"has no argument {sorted(unknown)} left"
        for parameter in signature:
            if parameter.name not in filled and not parameter.optional:
                return f"needs {parameter.name}"
            kind, wanted = filled.get(parameter.name), self.resolve(parameter.type)
            of = getattr(kind, "base", getattr(kind, "of", None))
            if isinstance(wanted, Instance) and of and not issubclass(of, wanted.of):
                return f"wants {wanted.of.__name__} as {parameter.name}, not {of.__name__}"
        return ""

    def call_live(self, node: Any, callee: Live, given: list[Any], named: dict[str, Any]) -> Any:
        is_class = isinstance(callee.value, type)
        found = signatures(callee.value.__init__ if is_class else callee.value)
        reasons, results = [], []
        for signature, result in found:
            reason = self.misfit(signature[is_class or callee.bound :], given, named)
            (reasons if reason else results).append(reason or self.resolve(result))
        if not results:
            return self.problem(node, "; ".join(reasons) or "has no signature to check")
        return Instance(callee.value) if is_class else _either(results)
