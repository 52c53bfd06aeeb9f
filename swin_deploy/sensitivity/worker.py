"""Places to effects, in this process, in another, or on another machine.

The last bits of logits depend on the threads of the runtime, which are the same in every worker;
and on the kind of CPU, which nobody can choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from swin_deploy.graph.int8.sensitivity import Effect, Probe
from swin_deploy.workers.base import require_same


@dataclass(frozen=True, slots=True)
class PlaceWorker:
    """Quantises one place at a time, and no other: a ``workers.base.Worker``.

    Attributes:
        probe: Measures. Pickles, if what gives its images does.
        files: Absolute path of all that it reads -> SHA-256.
    """

    probe: Probe
    files: Mapping[Path, str]

    def __enter__(self) -> Self:
        """Look whether the files are here, and the same ones.

        Raises:
            InputError: One is not here.
            UnsafeError: One is another than it was.
        """
        for path, expected in self.files.items():
            require_same(path, expected)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing stays open: every place is another graph."""

    def do(self, item: str) -> Effect:
        """The effect of one place, by its name; errors as of ``Probe.measure``."""
        return self.probe.measure(only=(item,))
