"""The two consoles: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from swin_deploy.report.tables import STYLES, Cell, Part, Table

_PIPE_WIDTH = 120  # a pipe has no width; 80 would fold the tables


def stdout() -> Console:
    """For results."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def stderr() -> Console:
    """For progress, notes and errors."""
    width = None if sys.stderr.isatty() else _PIPE_WIDTH
    return Console(file=sys.stderr, width=width, highlight=False, markup=False)


def show(parts: Iterable[Part], console: Console | None = None) -> None:
    """Print sentences, which are never folded, and tables, on standard output if on no other."""
    console = stdout() if console is None else console
    for part in parts:
        if isinstance(part, Table):
            console.print(part.to_rich())
        elif isinstance(part, Cell):
            console.print(part.text, style=STYLES[part.tone], soft_wrap=True)
        else:
            console.print(part, soft_wrap=True)


class Progress:
    """A spinner with what is being done, on a terminal; silent in a pipe, but for notes."""

    def __init__(self) -> None:
        self._console = stderr()
        self._status = self._console.status("starting")

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Show the spinner for the block."""
        if not sys.stderr.isatty():
            yield self
            return
        with self._status:
            yield self

    def started(self, title: str) -> None:
        """Name what is being done now."""
        self._status.update(title)

    def advanced(self, what: str, done: int, total: int) -> None:
        """Say how much of a long stage is done."""
        self._status.update(f"{what}: {done} of {total}")

    def note(self, text: str) -> None:
        """Say something that the user has to know."""
        self._console.print(f"note: {text}", soft_wrap=True)


class Downloads:
    """A bar for each file that is downloaded, on a terminal; silent in a pipe, but for notes."""

    def __init__(self) -> None:
        self.visible = sys.stderr.isatty()
        self._console = stderr()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=self._console,
            disable=not self.visible,
            transient=True,
        )

    @contextmanager
    def shown(self) -> Iterator[Downloads]:
        """Take the bars away after the block; they appear with the first file."""
        try:
            yield self
        finally:
            self._bars.stop()

    def file(self, name: str, total: int | None) -> Callable[[int], None]:
        """Show a bar for a file of ``total`` bytes; returns what to call with bytes received."""
        self._bars.start()
        task = self._bars.add_task(name, total=total)
        return lambda count: self._bars.advance(task, count)

    def note(self, text: str) -> None:
        """Say something that the user has to know."""
        self._console.print(f"note: {text}", soft_wrap=True)
