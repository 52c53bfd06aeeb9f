"""Places to effects, in this process, in another, or on another machine.

The last bits of logits depend on the threads of the runtime, which are the same in every worker;
and on the kind of CPU, which nobody can choose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from swin_deploy.files import Recorded
from swin_deploy.graph.int8.sensitivity import Effect, Probe
from swin_deploy.workers.base import require_same


class PlaceWorker:
    """Quantises one place at a time, and no other: a ``workers.base.Worker``.

    Args:
        probe: Measures. Pickles, if what gives its images does.
        graph: That it measures on; on another machine its copy is another one.
        files: Absolute path of all else that it reads -> SHA-256.
    """

    def __init__(self, probe: Probe, graph: Recorded, files: Mapping[Path, str]) -> None:
        self._probe, self._graph, self._files = probe, graph, files
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take a copy of the graph, and look whether the files are here, and the same ones.

        Raises:
            InputError: One is not here.
            UnsafeError: One is another than it was.
        """
        require_same(self._graph.path, self._graph.sha256, self._graph.also)
        for path, expected in self._files.items():
            require_same(path, expected)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="swin-deploy."))
        self._opened = replace(self._probe, source=self._graph.copy_to(Path(folder)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def do(self, item: str) -> Effect:
        """The effect of one place, by its name; errors as of ``Probe.measure``."""
        return self._opened.measure(only=(item,))
