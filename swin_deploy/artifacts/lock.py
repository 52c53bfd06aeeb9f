"""One writer per run folder; who is refused learns who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from swin_deploy.errors import BusyError


@contextmanager
def run_lock(folder: Path, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock of ``folder`` for the block. The kernel frees it if this process dies.

    Raises:
        BusyError: Another process holds it and did not let go within ``wait_s``.
    """
    holder = folder / ".lock.holder"
    try:
        with FileLock(folder / ".lock").acquire(timeout=wait_s):
            holder.write_text(
                json.dumps(
                    {
                        "pid": os.getpid(),
                        "host": socket.gethostname(),
                        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
                    }
                )
            )
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout:
        raise BusyError(
            f"{folder} is in use{_describe(holder)}",
            "--wait SECONDS, or another --out",
        ) from None


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f" by process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):  # taken or released a moment ago: no name to give
        return ""
