"""The report in Markdown: its words and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swin_deploy.report.page.pages import Report
from swin_deploy.report.page.section import Section
from swin_deploy.report.page.tables import Cell, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(report: Report) -> str:
    """GitHub's dialect; names cannot become markup."""
    lines = [f"# {escape(report.title)}: deployment report", ""]
    for headline in report.headlines:
        lead = f"**{escape(headline.source.label)}**: " if len(report.headlines) > 1 else ""
        lines += [f"{lead}{escape(headline.verdict)}", ""]
        lines += [
            f"- {escape(card.title)}: {escape(card.value)} ({escape(card.more)})"
            for card in headline.cards
        ]
        lines += [""] if headline.cards else []
    for section in report.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text that stays text, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    for words in section.words:
        yield from (escape(words), "")
    for table in section.tables:
        yield from _table(table)
    for caption, commands in section.commands:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", commands)), default=0))
        yield from (f"{escape(caption)}:", "") if caption else ()
        yield from (f"{fence}sh", commands, fence, "")
    yield from (f"- {escape(note)}" for note in section.notes)
    if section.notes:
        yield ""


def _table(table: Table) -> Iterator[str]:
    yield from (f"{escape(table.caption)}:", "")
    yield _row([escape(column.removeprefix(">")) for column in table.columns])
    yield _row(["---:" if column.startswith(">") else "---" for column in table.columns])
    yield from (_row([_cell(cell) for cell in row]) for row in table.rows)
    yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    """Code as code, unless it has what no code span can hold in a table."""
    if cell.code and cell.text and not re.search(r"[`|\s\\]", cell.text):
        return f"`{cell.text}`"
    return escape(cell.text)
