"""The results of ``predict`` as a table, CSV or JSON lines; and tables of plain text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from swin_deploy.network.interface import Task
    from swin_deploy.runtime.predict import PhotoResult


Format = Literal["table", "csv", "jsonl"]
LINE_FORMATS: tuple[Format, ...] = ("table", "csv", "jsonl")
_COLUMNS = ("photo", "rank", "class", "label", "score")
THRESHOLD = 0.5  # probability from which a label holds, where labels are independent


def format_results(
    results: Iterable[PhotoResult],
    form: Format,
    task: Task = "single-label",
    threshold: float = THRESHOLD,
) -> Iterator[str]:
    """Lines to print, as the results come.

    Args:
        results: Of photos.
        form: Of the lines.
        task: Of all of them.
        threshold: Of a multi-label network: labels from this probability on hold.
    """
    several = task == "multi-label"
    if form == "csv":
        yield _csv_line((*_COLUMNS, "holds") if several else _COLUMNS)
    for result in results:
        if form == "jsonl":
            facts = {
                "photo": str(result.photo),
                "task": task,
                "probabilities": result.probabilities,
                "best": [asdict(guess) for guess in result.best],
            }
            yield json.dumps(facts | ({"labels": result.holding(threshold)} if several else {}))
        elif form == "csv":
            for rank, guess in enumerate(result.best, start=1):
                row = (result.photo, rank, guess.index, guess.label, f"{guess.score:.6g}")
                holds = (int(guess.score >= threshold),) if several else ()
                yield _csv_line(tuple(map(str, (*row, *holds))))
        else:
            yield from _table(result, threshold if several else None)


def score_text(score: float, probabilities: bool) -> str:
    """A probability in percent, or a number as it is."""
    return f"{score:.2%}" if probabilities else f"{score:.5g}"


def _table(result: PhotoResult, threshold: float | None) -> Iterator[str]:
    """The photo, and a line for each score; those that reach the threshold have a mark."""
    title = printable(str(result.photo))
    if threshold is not None:
        held = ", ".join(map(printable, result.holding(threshold))) or "no label"
        title = f"{title}: {held}"
    yield title
    for guess in result.best:
        name = "" if guess.label == str(guess.index) else printable(guess.label)
        score = score_text(guess.score, result.probabilities)
        mark = "" if threshold is None else " *" if guess.score >= threshold else "  "
        yield f"  {score:>8}{mark}  {guess.index:>5}  {name}".rstrip()


def _csv_line(row: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([_encodable(cell) for cell in row])
    return line.getvalue()


def printable(text: str) -> str:
    """A name on one line, whatever bytes it is made of."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in _encodable(text))


def _encodable(text: str) -> str:
    """File names may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def comparison_lines(comparisons: Sequence[dict[str, Any]]) -> list[str]:
    """The rows of a verification, as ``Verification.as_dict`` has them, as lines of a table."""
    rows = [("candidate", "inputs", "output", "dB", "floor", "max error", "top-1", "")]
    for row in comparisons:
        agreement = row["top1_agreement"]
        rows.append(
            (
                printable(str(row["candidate"])),
                str(row["inputs"]),
                str(row["output"]),
                "none" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}",
                "none" if row["floor_db"] is None else f"{row['floor_db']:.0f}",
                "none" if row["max_abs_error"] is None else f"{row['max_abs_error']:.1e}",
                "" if agreement is None else f"{agreement:.0%}",
                "ok" if row["passed"] else f"FAILED: {row['reason']}",
            )
        )
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, with each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
