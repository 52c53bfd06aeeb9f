"""A part of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from swin_deploy.report.page.gather import ReportData, Source
from swin_deploy.report.page.svg import Figure
from swin_deploy.report.page.tables import Cell, Table, text

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        name: Its id on the page.
        title: Its heading.
        words: Paragraphs.
        figures: Above the tables.
        tables: At least none.
        commands: Caption and shell lines.
        notes: A list, at the end.
    """

    name: str
    title: str
    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say."""
        return not any((self.words, self.figures, self.tables, self.commands, self.notes))


def having(data: ReportData, part: Callable[[Source], T | None]) -> Iterator[tuple[Source, T]]:
    """The sources that have a part, with it."""
    for source in data.sources:
        if (found := part(source)) is not None:
            yield source, found


def label(data: ReportData, source: Source) -> str:
    """Which source it is, where there are several."""
    return source.label if len(data.sources) > 1 else ""


def named(data: ReportData, source: Source, name: str) -> str:
    """A name in a figure: with its source, where there are several."""
    return f"{source.label}, {name}" if len(data.sources) > 1 else name


def label_cell(data: ReportData, source: Source) -> Cell:
    """The first cell of a row; its column vanishes where there is one source."""
    return text(label(data, source))
