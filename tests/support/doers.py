"""A worker that does what its items say. It imports next to nothing, so that it starts at once."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from swin_deploy.core.errors import InputError


def say_half() -> None:
    """Begin a message to the parent, and stop."""
    frame = sys._getframe()
    while not isinstance(
        line := frame.f_locals.get("line", frame.f_locals.get("connection")), Connection
    ):
        assert frame.f_back is not None
        frame = frame.f_back
    os.write(line.fileno(), struct.pack("!i", 1 << 20) + b"half")
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)  # until the signal is there


@dataclass(frozen=True)
class Doer:
    """A worker whose items are what it shall do, each with a file that says it was done once."""

    folder: Path
    opening: str = ""

    def __enter__(self) -> Self:
        (self.folder / f"open.{os.getpid()}").touch()
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
        elif item == "meet":  # another worker
            while len(list(self.folder.glob("open.*"))) < 2:
                time.sleep(0.02)
        elif item == "hang once" and not (mark := self.folder / item).exists():
            mark.touch()
            time.sleep(600)
        elif item == "half once" and not (mark := self.folder / item).exists():
            mark.touch()
            say_half()
        elif item == "fail":
            raise InputError("a bad item")
        elif item == "memory":
            bytearray(1 << 50)
        elif item == "bug":
            raise KeyError("a bug")
