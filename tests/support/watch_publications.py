#!/usr/bin/env python3
"""Readers in a loop while a run is published over and over: what each of them saw.

PYTHONPATH=. python3 tests/support/watch_publications.py FOLDER [SECONDS [READERS]]
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from small_runs import make_run, read_text
from swin_deploy.core.errors import SwinDeployError


@dataclass(slots=True)
class Watched:
    """What readers saw.

    Attributes:
        reads: Whole runs that were read.
        publications: That were made meanwhile.
        errors: Of the readers; none should be there.
    """

    reads: int = 0
    publications: int = 0
    errors: list[str] = field(default_factory=list)


def watch_publications(folder: Path, readers: int, seconds: float) -> Watched:
    """Publish a run for so long, and read it all the while."""
    make_run(folder, "0")
    context = multiprocessing.get_context("spawn")
    over, found = context.Event(), context.Queue()
    processes = [context.Process(target=_read, args=(folder, over, found)) for _ in range(readers)]
    for process in processes:
        process.start()
    for _ in processes:
        found.get(timeout=120)  # each says that it reads
    watched, end = Watched(), time.monotonic() + seconds
    while time.monotonic() < end:
        watched.publications += 1
        make_run(folder, str(watched.publications))
    over.set()
    for _ in processes:
        reads, errors = found.get(timeout=120)
        watched.reads += reads
        watched.errors += errors
    for process in processes:
        process.join()
    return watched


def _read(folder: Path, over: Event, found: Queue[object]) -> None:
    found.put("reading")
    reads, errors = 0, []
    while not over.is_set():
        try:
            read_text(folder)
            reads += 1
        except (SwinDeployError, AssertionError, OSError) as error:
            errors.append(repr(error))
    found.put((reads, errors))


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    duration, count = (*map(float, numbers), 60.0, 10.0)[:2]
    print(watch_publications(Path(place), int(count), duration))
