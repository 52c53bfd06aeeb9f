"""What a compiler said while it built an engine, and how far it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

_EVERY_S = 0.1  # progress is told this often; new phases always
_WORDS = re.compile(r"[^\s\[\],;:()']+")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is.

    Attributes:
        phases: Names of the phases that are open, outermost first.
        done: Steps of the innermost one that are done.
        total: Of so many.
        node: The last node of the graph that the compiler named; empty if it named none.
    """

    phases: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    node: str = ""

    def __str__(self) -> str:
        """Where the build is, or was when it ended, in words."""
        where = " > ".join(self.phases) or "the start"
        steps = f", step {self.done} of {self.total}" if self.total else ""
        node = f"; the last node that it named is {self.node}" if self.node else ""
        return f"{where}{steps}{node}"


class BuildRecord:
    """Keeps what a logger and a monitor hear, and reports progress.

    Args:
        report: Gets every ``Progress`` worth telling.
    """

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.messages: list[str] = []
        self.nodes: frozenset[str] = frozenset()  # of the graph, to know them by
        self._report = report
        self._errors: list[str] = []
        self._open: list[tuple[str, int]] = []
        self._node = ""
        self._done = 0
        self._told_at = 0.0
        self.latest = Progress()  # phases end as a build fails: where it was when it last went on

    @property
    def progress(self) -> Progress:
        """How far it is."""
        phases = tuple(name for name, _ in self._open)
        return Progress(phases, self._done, self._open[-1][1] if self._open else 0, self._node)

    @property
    def errors(self) -> str:
        """The last errors, on one line."""
        return "; ".join(self._errors[-3:])

    def heard(self, severity: str, message: str) -> None:
        """Take a message; print it into the log of the build, unless it is chatter."""
        self.messages.append(message)
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(message)
        if severity != "VERBOSE":
            print(f"{severity}: {message}", flush=True)
        named = next((word for word in _WORDS.findall(message[:400]) if word in self.nodes), "")
        if named and named != self._node:
            self._node = named
            self._tell(urgent=False)

    def started(self, phase: str, steps: int) -> None:
        """A phase begins, inside of those that are open."""
        self._open.append((phase, steps))
        self._done = 0
        self._tell(urgent=True)

    def stepped(self, phase: str, step: int) -> None:
        """A step of a phase, counted from 0, is done."""
        if self._open and self._open[-1][0] == phase:
            self._done = step + 1
            self._tell(urgent=False)

    def finished(self, phase: str) -> None:
        """A phase ends, and so does whatever was left open inside of it."""
        names = [name for name, _ in self._open]
        if phase in names:
            del self._open[len(names) - 1 - names[::-1].index(phase) :]
        self._done = 0

    def _tell(self, urgent: bool) -> None:
        self.latest = self.progress
        now = time.monotonic()
        if urgent or now - self._told_at >= _EVERY_S:
            self._told_at = now
            self._report(self.latest)
