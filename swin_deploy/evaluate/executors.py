"""Shards to results, in this process or in several, as each is done and in any order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.connection import wait as wait_for

from swin_deploy.errors import ResourceError
from swin_deploy.evaluate.shards import Shard, ShardResult
from swin_deploy.evaluate.worker import Work, Worker
from swin_deploy.outcome import SIGNALS

ATTEMPTS = 3  # at a shard; one that takes three workers with it would take the fourth


def run_here(work: Work, shards: Sequence[Shard]) -> Iterator[ShardResult]:
    """One after the other, in this process."""
    with Worker(work) as worker:
        for shard in shards:
            yield worker.run(shard)


def run_in_processes(
    work: Work, shards: Sequence[Shard], workers: int, note: Callable[[str], None]
) -> Iterator[ShardResult]:
    """By so many processes. If one of them dies, all are replaced and go on with what is left.

    Args:
        work: What each of them holds open.
        shards: What to do.
        workers: At least one.
        note: Is told when one died.

    Raises:
        ResourceError: Workers keep dying.
        SwinDeployError: As of a ``Worker``.
    """
    left = {shard.index: shard for shard in shards}
    without_result = 0
    while left:
        finished = 0
        try:
            for result in _run_pool(work, list(left.values()), workers):
                finished += 1
                del left[result.index]
                yield result
        except BrokenProcessPool as error:
            without_result = 0 if finished else without_result + 1
            if without_result == ATTEMPTS:
                raise ResourceError(
                    f"the workers died {ATTEMPTS} times before one of {len(left)} shards was done",
                    "fewer --workers, or a smaller --batch",
                ) from error
            note(f"a worker died: {len(left)} shards are left to new ones")


def _run_pool(work: Work, shards: Sequence[Shard], workers: int) -> Iterator[ShardResult]:
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(work,)
    )
    try:
        waiting = {pool.submit(_run, shard) for shard in shards}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            lost: Future[ShardResult] | None = None
            for future in done:  # results first: a pool that broke has some of them, too
                if isinstance(future.exception(), BrokenProcessPool):
                    lost = future
                else:
                    yield future.result()
            if lost is not None:
                lost.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _State:
    """What a worker process keeps from shard to shard."""

    work: Work
    worker: Worker | None = None
    stack = ExitStack()


def _start(work: Work) -> None:
    """Leave signals to the parent, and end with it, even if it is killed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _State.work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _run(shard: Shard) -> ShardResult:
    """Opened with the first shard and not before, so that what fails is said as it is."""
    if _State.worker is None:
        _State.worker = _State.stack.enter_context(Worker(_State.work))
    return _State.worker.run(shard)
