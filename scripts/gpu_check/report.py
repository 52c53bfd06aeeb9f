"""Parts of a check: each passed, failed, or could not run and says why."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpu_check.commands import CommandError
from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.core.files import write_json

SCHEMA_VERSION = 2  # 2: details are the reports of the commands
State = Literal["passed", "failed", "not run"]
Group = Literal["here", "build", "cost", "verify", "bench"]
COUNTED = ("verify", "bench")  # of these at least one has to run


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that was tried.

    Attributes:
        group: Which kind of thing.
        name: Which one.
        state: What became of it.
        says: What was found, or why it could not run.
        details: More of it, JSON-able.
    """

    group: Group
    name: str
    state: State
    says: str
    details: dict[str, Any] = field(default_factory=dict)


class Report:
    """All parts so far, in a file after each: a crash of a native library loses nothing.

    Args:
        path: Of the JSON file.
        header: What its object starts with.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        self.parts: list[Part] = []

    def run(self, group: Group, name: str, work: Callable[[], tuple[str, dict[str, Any]]]) -> bool:
        """Do one part, and say whether it passed.

        Args:
            group: Of the part.
            name: Of the part.
            work: Gives what was found, and details.
        """
        try:
            part = Part(group, name, "passed", *work())
        except EnvironmentMissingError as error:
            part = Part(group, name, "not run", error.problem)
        except CommandError as error:
            part = Part(group, name, "failed", str(error), error.details)
        except Exception as error:  # of any library: the other parts go on, and this one counts
            part = Part(group, name, "failed", repr(error), {"traceback": traceback.format_exc()})
        self.parts.append(part)
        print(line_of(part), flush=True)
        write_json(self.path, self.as_dict())
        return part.state == "passed"

    def as_dict(self) -> dict[str, Any]:
        """The content of the file."""
        parts = [asdict(part) for part in self.parts]
        return {"schema_version": SCHEMA_VERSION, **self.header, "parts": parts}

    @property
    def exit_code(self) -> int:
        """5 if something failed, 4 if nothing could run, else 0."""
        if any(part.state == "failed" for part in self.parts):
            return 5
        ran = any(p.state == "passed" for p in self.parts if p.group in COUNTED)
        return 0 if ran else 4

    def summary(self) -> Iterator[str]:
        """Lines for the end."""
        states = [part.state for part in self.parts]
        counts = ", ".join(
            f"{states.count(state)} {state}" for state in ("passed", "failed", "not run")
        )
        yield f"{counts}: {self.path}"


def line_of(part: Part) -> str:
    """A part as a row of the table; the file has all of a reason, and this its beginning."""
    first = part.says.partition("\n")[0]
    return f"{part.group:<7} {part.state:<8} {part.name:<56} {first[:160]}"
