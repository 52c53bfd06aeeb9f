"""Figures of costs as tables show them; None where the batch is dynamic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_DYNAMIC = "dynamic"


def moved(row: dict[str, Any]) -> int | None:
    """Activations and weights, in bytes."""
    return add_known((row["activation_bytes"], row["weight_bytes"]))


def add_known(values: Iterable[int | None]) -> int | None:
    """The sum; None if any is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def scaled(value: float | None, unit: float, form: str = ".1f") -> str:
    """In units of ``unit``."""
    return _DYNAMIC if value is None else format(value / unit, form)


def megabytes(value: int | None) -> str:
    """Bytes in MB."""
    return scaled(value, 1e6)


def giga(value: int | None) -> str:
    """FLOPs in 1e9."""
    return scaled(value, 1e9, ".2f")


def micro(value: float | None) -> str:
    """Seconds in microseconds."""
    return scaled(value, 1e-6)


def batch_text(engine: dict[str, Any]) -> str:
    """A size or a range."""
    low, high = engine["batch"]["low"], engine["batch"]["high"]
    return str(high) if low == high else f"{low}:{high}"
