"""What the process of a compiler has read and written, by its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swin_deploy.files import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Hashes that the compiler's own process has taken: whoever reads the files compares them.

    Two builds of one graph need not give the same bytes, so that only the process that made a file
    knows what it has to be.

    Attributes:
        graph: SHA-256 of the ONNX file that was compiled.
        files: Suffix of a file of the engine -> its SHA-256.
    """

    graph: str
    files: dict[str, str]


def written(source: Path, *finals: Path) -> Written:
    """Of files that this process has just written."""
    return Written(graph=sha256(source), files={f.suffix: sha256(f) for f in finals})
