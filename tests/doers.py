"""A worker that does what its items say. It imports next to nothing, so that it starts at once."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from swin_deploy.errors import InputError


@dataclass(frozen=True)
class Doer:
    """A worker whose items are what it shall do, each with a file that says it was done once."""

    folder: Path
    opening: str = ""

    def __enter__(self) -> Self:
        if self.opening:
            self._act(self.opening)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        (self.folder / f"closed.{os.getpid()}").touch()

    def do(self, item: str) -> int:
        """Of its process."""
        self._act(item)
        return os.getpid()

    def _act(self, item: str) -> None:
        if item.startswith("wait for "):
            while not (self.folder / item.removeprefix("wait for ")).exists():
                time.sleep(0.02)
        elif item.startswith("always "):
            os.kill(os.getpid(), getattr(signal, item.removeprefix("always ")))
        elif item.startswith("once ") and not (mark := self.folder / item).exists():
            mark.touch()
            os.kill(os.getpid(), getattr(signal, item.removeprefix("once ")))
            time.sleep(60)  # until the signal is there
        elif item == "fail":
            raise InputError("a bad item")
        elif item == "memory":
            bytearray(1 << 50)
        elif item == "bug":
            raise KeyError("a bug")
