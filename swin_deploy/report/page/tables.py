"""Tables as data, for HTML and Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "doubtful"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table.

    Attributes:
        text: For people.
        value: To sort by; None for the text.
        tone: Good news or bad, beside the text, which says so too.
        code: Whether it is a path or a hash.
    """

    text: str
    value: float | None = None
    tone: Tone = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report.

    Attributes:
        caption: What it shows.
        columns: Titles with units; those that start with ">" are numbers, set to the right.
        rows: A cell per column.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.caption}: a row has not {len(self.columns)} cells")


def make_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table without the columns in which no row has anything."""
    used = [i for i, _ in enumerate(columns) if any(row[i].text for row in rows)]
    return Table(
        caption,
        tuple(columns[i] for i in used),
        tuple(tuple(row[i] for i in used) for row in rows),
    )


def text(value: str, tone: Tone = "") -> Cell:
    """Words."""
    return Cell(value, tone=tone)


def code(value: str) -> Cell:
    """A path, a hash or a command."""
    return Cell(value, code=True)


def number(value: float | None, form: str = ",.2f") -> Cell:
    """A figure; empty where it is not known."""
    return Cell("") if value is None else Cell(format(value, form), float(value))


def measure(value: float | None, digits: int = 3) -> Cell:
    """A figure that may be of any size, with so many significant digits."""
    return Cell("") if value is None else Cell(significant(value, digits), float(value))


def within(value: float, low: float, high: float, show: Callable[[float], str]) -> Cell:
    """A figure with its interval, sorted by the figure; ``show`` makes text of each."""
    return Cell(f"{show(value)} ({show(low)} to {show(high)})", float(value))


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent: 1,230 or 0.0123.

    Three, because the next one differs from one measurement to another.
    """
    if value == 0:
        return "0"
    rounded = round(value, _decimals(value, digits))
    return f"{rounded:,.{max(0, _decimals(rounded, digits))}f}"


def _decimals(value: float, digits: int) -> int:
    return digits - 1 - math.floor(math.log10(abs(value)))
