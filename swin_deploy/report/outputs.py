"""Comparisons of networks with several outputs, brought down to what a table has room for."""

from __future__ import annotations

from itertools import groupby
from typing import Any


def fold_outputs(comparisons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each candidate and set of inputs every output that failed, else the one nearest its floor.

    Args:
        comparisons: Rows of ``verify.json`` or of a ``verify`` report, the outputs of a candidate
            and set of inputs together.

    Returns:
        Some of the rows, each with the number of "outputs" that it stands among.
    """
    folded = []
    for _, group in groupby(comparisons, _compared):
        rows = list(group)
        shown = [row for row in rows if not row["passed"]] or [min(rows, key=_sqnr_db)]
        folded += [row | {"outputs": len(rows)} for row in shown]
    return folded


def _compared(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is of; in ``verify.json`` the reference is eager throughout."""
    return row.get("reference"), row["candidate"], row["inputs"]


def _sqnr_db(row: dict[str, Any]) -> float:
    """Of a row that passed, where null stands for no difference at all."""
    return float("inf") if row["sqnr_db"] is None else float(row["sqnr_db"])
