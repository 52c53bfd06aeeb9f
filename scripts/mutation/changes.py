"""Every small change of a module, found in its syntax tree and made in its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change.

    Attributes:
        module: Path in the tree.
        line: Where it begins.
        start: Offset of the first byte that is replaced.
        end: Behind the last.
        operator: Kind of change.
        before: What stands there.
        after: What takes its place.
    """

    module: str
    line: int
    start: int
    end: int
    operator: str
    before: str
    after: str

    def apply(self, content: bytes) -> bytes:
        """The module with the change."""
        return content[: self.start] + self.after.encode() + content[self.end :]

    def key(self) -> tuple[str, str, str]:
        """What an explanation is found by: lines may move."""
        return self.module, self.before, self.after


def find_mutants(module: str, content: bytes) -> list[Mutant]:
    """Every change of a module, in order."""
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = set()
    for node, operator, after in _changes(ast.parse(content)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = content[start:end].decode()
        found.add(Mutant(module, node.lineno, start, end, operator, before, after))
    return sorted(found)


def _changes(node: ast.AST) -> Iterator[tuple[Any, str, str]]:
    """(node, operator, what replaces it) below a node, but in what only describes or complains."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.Raise):  # its message is not looked into
        yield node, "statement removed", "pass"
        return
    yield from _own_changes(node)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _changes(child)


def _own_changes(node: ast.AST) -> Iterator[tuple[Any, str, str]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            changed = ast.Compare(node.left, [COMPARISONS[type(op)]()], node.comparators)
            yield node, "comparison", f"({ast.unparse(changed)})"
        case ast.BoolOp(op=op, values=values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield node, "boolean", f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, "boolean", f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            if not _is_text(left) and not _is_text(right):
                changed_sum = ast.BinOp(left, ARITHMETIC[type(op)](), right)
                yield node, "arithmetic", f"({ast.unparse(changed_sum)})"
        case ast.Constant(value=bool(value)):
            yield node, "constant", str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, "constant", f"({value + 1})"
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield node, "returned None", "return None"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield node, "statement removed", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "statement removed", "pass"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield test, "condition", f"({ast.unparse(ast.UnaryOp(ast.Not(), test))})"


def _is_text(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)
