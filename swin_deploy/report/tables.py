"""Tables as data, described once: for the terminal, the page and Markdown alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from rich.table import Table as RichTable


T = TypeVar("T")
Tone = Literal["", "good", "bad", "doubtful"]
STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "bold red", "doubtful": "bold yellow"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")  # of Markdown


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


# What columns show of a row: the title, which is set to the right after ">", and the cell.
Columns: TypeAlias = Sequence[tuple[str, Callable[[T], Cell | str]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the page has its HTML in ``page.html.j2``.

    Attributes:
        caption: What it shows.
        columns: Titles with units; those that start with ">" are numbers, set to the right.
        rows: A cell per column.
        cut: Whether a terminal cuts the last column off where it has no room, and folds nothing.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cut: bool = False

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.caption}: a row has not {len(self.columns)} cells")

    def ending_with(self, title: str) -> Table:
        """The same with this column last, if it is there: where reasons of any length have room."""
        order = sorted(range(len(self.columns)), key=lambda i: self.columns[i] == title)
        rows = tuple(tuple(row[i] for i in order) for row in self.rows)
        return Table(self.caption, tuple(self.columns[i] for i in order), rows, self.cut)

    def to_rich(self) -> RichTable:
        """For a terminal: no lines, and colours where it has them."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(self.caption) if self.caption else None,
            title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0),
        )  # fmt: skip
        for column in self.columns:
            title = column.removeprefix(">").replace(" (", "\n(", 1)  # the unit below it
            side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            table.add_column(Text(title), justify=side, no_wrap=self.cut, overflow="fold")
        for row in self.rows:
            cells = [Text(cell.text, STYLES[cell.tone]) for cell in row]
            if self.cut:
                cells[-1].no_wrap, cells[-1].overflow = True, "ellipsis"
            table.add_row(*cells)
        if self.cut:
            table.columns[-1].no_wrap = False
        return table

    def to_markdown(self) -> Iterator[str]:
        """Lines of GitHub's dialect; names cannot become markup."""
        yield from (f"{escape(self.caption)}:", "")
        yield _markdown_row(escape(column.removeprefix(">")) for column in self.columns)
        yield _markdown_row("---:" if one.startswith(">") else "---" for one in self.columns)
        yield from (_markdown_row(map(_markdown_cell, row)) for row in self.rows)
        yield ""


Part: TypeAlias = str | Cell | Table  # of what a terminal shows: a sentence, or a table


def tabulate(
    caption: str,
    columns: Columns[T],
    rows: Iterable[tuple[str, T]],
    without: Collection[str] = (),
) -> Table:
    """A table of results, without the columns in which no row has anything.

    Args:
        caption: What it shows.
        columns: What of each.
        rows: Results, each behind the label of its run; "" where there is one run.
        without: Titles of columns to leave out.
    """
    used = [one for one in columns if one[0].removeprefix(">") not in without]
    cells = [(text(label), *(_cell(cell(row)) for _, cell in used)) for label, row in rows]
    return make_table(caption, ("run", *(title for title, _ in used)), cells)


def alone(rows: Iterable[T]) -> list[tuple[str, T]]:
    """Rows of the one run that there is, for ``tabulate``."""
    return [("", row) for row in rows]


def make_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell | str]]) -> Table:
    """A table without the columns in which no row has anything."""
    cells = [[_cell(one) for one in row] for row in rows]
    used = [i for i, _ in enumerate(columns) if any(row[i].text for row in cells)]
    return Table(
        caption,
        tuple(columns[i] for i in used),
        tuple(tuple(row[i] for i in used) for row in cells),
    )


def _cell(shown: Cell | str) -> Cell:
    return Cell(shown) if isinstance(shown, str) else shown


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


def escape(words: str) -> str:
    """Words that stay words in Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(words.split()))


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    """Code as code, unless it has what no code span can hold in a table."""
    if cell.code and cell.text and not re.search(r"[`|\s\\]", cell.text):
        return f"`{cell.text}`"
    return escape(cell.text)
