"""Reading finished runs: only files whose hash stands in the manifest count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swin_deploy.artifacts.manifest import MANIFEST, Manifest, read_manifest
from swin_deploy.errors import InputError, UnsafeError
from swin_deploy.files import sha256


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run folder that was published. Needs no lock: published files are never half written."""

    path: Path
    manifest: Manifest

    def checked(self, name: str) -> Path:
        """The file called ``name``, after comparing it with its recorded hash.

        Raises:
            UnsafeError: The manifest does not list it, or it is not the file that was recorded.
        """
        expected = self.manifest.outputs().get(name)
        path = self.path / name
        if expected is None:
            raise UnsafeError(f"{path} is not listed in {self.path / MANIFEST}", "export again")
        if not path.is_file():
            raise InputError(f"{path} is listed in the manifest and missing", "export again")
        if (found := sha256(path)) != expected:
            raise UnsafeError(
                f"{path} was changed: sha256 {found[:12]}, the manifest says {expected[:12]}",
                "export again",
            )
        return path


def find_run(path: Path) -> FinishedRun | None:
    """The run that ``path`` is, or lies in; None if it belongs to none."""
    start = path.absolute()
    for folder in (start, *start.parents[:2]):
        if (manifest := read_manifest(folder / MANIFEST)) is not None:
            return FinishedRun(folder, manifest)
    return None


def require_run(path: Path) -> FinishedRun:
    """As ``find_run``.

    Raises:
        InputError: There is no finished run at ``path``.
    """
    if (run := find_run(path)) is None:
        damaged = (path / MANIFEST).exists()
        raise InputError(
            f"{path / MANIFEST} cannot be read as a manifest of this version"
            if damaged
            else f"{path} holds no finished run",
            "swin-deploy export",
        )
    return run
