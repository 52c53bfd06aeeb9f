"""What has been measured so far, on the disk, so that a run that is killed goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from swin_deploy.core.files import read_json, write_json
from swin_deploy.core.records import decode, finite
from swin_deploy.core.reports import replace_report, require_report

T = TypeVar("T")

SCHEMA_VERSION = 1
KIND = "sensitivity"


def journal_path(report: Path) -> Path:
    """Where what an unfinished report will say is kept."""
    return report.with_name(f".{report.name}.partial")


def misfit_of(found: object, identity: dict[str, Any]) -> str:
    """Why what depends on ``found`` cannot go into a journal of this identity; "" if it can."""
    if not isinstance(found, dict):
        return "cannot be used"
    changed = sorted(key for key in found | identity if found.get(key) != identity.get(key))
    return f"is of another {', '.join(changed)}" if changed else ""


class Journal:
    """Measurements by name, written after each of them to a file beside the report.

    A finished report holds them too, so that asking again, or for another limit, measures only
    what is new.

    Args:
        report: The file that will hold the report.
        identity: All that the measurements depend on, JSON-able.
        note: Is told where measurements are taken from, and why others do not count.
        kind: Of the report, as it says itself.
        reuse_finished: Whether those of a finished report count, too; times are better taken anew.
    """

    def __init__(
        self,
        report: Path,
        identity: dict[str, Any],
        note: Callable[[str], None],
        *,
        kind: str = KIND,
        reuse_finished: bool = True,
    ) -> None:
        self.report, self.identity = report, json.loads(json.dumps(identity))
        self.kind, self._note = kind, note
        self.path = journal_path(report)
        require_report(report, kind)
        self.measured: dict[str, Any] = {}
        self._found = self.path
        for path in (report, self.path) if reuse_finished else (self.path,):
            found = self._read(path, note)
            if len(found) > len(self.measured):
                self.measured, self._found = found, path
        if self.measured:
            note(f"{len(self.measured)} measurements of an earlier run are used again")

    def get(self, name: str, kind: type[T], measure: Callable[[], T]) -> T:
        """What ``measure`` gives, a dataclass of this kind, if it is not known already."""
        if name not in self.measured:
            self.measured[name] = finite(asdict(cast(Any, measure())))
            write_json(self.path, self._state())
        return self.known(name, kind)

    def known(self, name: str, kind: type[T]) -> T:
        """What was measured under a name."""
        return decode(kind, self.measured[name], self._found, "move it away", f"measured.{name}")

    def finish(self, report: dict[str, Any]) -> None:
        """Write the report with all measurements, and remove what stood beside it.

        Args:
            report: Its "notes" get what ``replace_report`` says.
        """
        whole = self._state() | report
        if said := replace_report(self.report, whole, "notes"):
            report["notes"] = whole["notes"]
            self._note(said)
        self.path.unlink(missing_ok=True)

    def _state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "schema_version": SCHEMA_VERSION,
            "identity": self.identity,
            "measured": dict(sorted(self.measured.items())),  # workers finish in any order
        }

    def _read(self, path: Path, note: Callable[[str], None]) -> dict[str, Any]:
        if not path.exists():
            return {}
        data = read_json(path) or {}
        known = data.get("schema_version") == SCHEMA_VERSION
        if problem := misfit_of(data.get("identity") if known else None, self.identity):
            note(f"{path} {problem}: measuring again")
            return {}
        measured = data.get("measured")
        return measured if isinstance(measured, dict) else {}
