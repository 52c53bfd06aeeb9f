"""What the code knows and no type says, checked where it is used: ``assert`` can be turned off.

What fails here is a bug of this package (exit code 1), never a matter of input.
"""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """``value``, which cannot be None."""
    if value is None:
        raise RuntimeError("a value is missing that has to be there")
    return value


def of_kind(kind: type[T], value: object) -> T:
    """``value``, which cannot be of any other type."""
    if not isinstance(value, kind):
        raise RuntimeError(f"a {type(value).__name__} where a {kind.__name__} has to be")
    return value
