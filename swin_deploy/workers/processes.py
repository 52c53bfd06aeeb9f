"""Items to results, in this process or in several, as each is done and in any order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from swin_deploy.errors import ResourceError
from swin_deploy.outcome import SIGNALS
from swin_deploy.workers.base import ATTEMPTS, Worker

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_here(
    worker: Worker[Item, Result], items: Mapping[str, Item]
) -> Iterator[tuple[str, Result]]:
    """One after the other, in this process: the name of each, and its result."""
    with worker as opened:
        for name, item in items.items():
            yield name, opened.do(item)


def run_in_processes(
    worker: Worker[Item, Result],
    items: Mapping[str, Item],
    workers: int,
    note: Callable[[str], None],
) -> Iterator[tuple[str, Result]]:
    """By so many processes. If one of them dies, all are replaced and go on with what is left.

    Args:
        worker: What each of them opens.
        items: By name, what to do.
        workers: At least one.
        note: Is told when one died.

    Raises:
        ResourceError: Workers keep dying.
        SwinDeployError: As of the worker.
    """
    left = dict(items)
    without_result = 0
    while left:
        finished = 0
        try:
            for name, result in _run_pool(worker, left, workers):
                finished += 1
                del left[name]
                yield name, result
        except BrokenProcessPool as error:
            without_result = 0 if finished else without_result + 1
            if without_result == ATTEMPTS:
                raise ResourceError(
                    f"the workers died {ATTEMPTS} times before any of {_count(left)} was done",
                    "fewer --workers, or a smaller batch",
                ) from error
            note(f"a worker died: {_count(left)} left to new ones")


def _count(left: Mapping[str, Any]) -> str:
    first = next(iter(left))
    return first if len(left) == 1 else f"{first} and {len(left) - 1} more"


def _run_pool(
    worker: Worker[Item, Result], items: Mapping[str, Item], workers: int
) -> Iterator[tuple[str, Result]]:
    context = multiprocessing.get_context("spawn")
    size = min(workers, len(items))
    pool = ProcessPoolExecutor(size, context, initializer=_start, initargs=(worker,))
    try:
        names: dict[Future[Result], str] = {pool.submit(_do, i): n for n, i in items.items()}
        waiting = set(names)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            lost: Future[Result] | None = None
            for future in done:  # results first: a pool that broke has some of them, too
                if isinstance(future.exception(), BrokenProcessPool):
                    lost = future
                else:
                    yield names[future], future.result()
            if lost is not None:
                lost.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _State:
    """What a worker process keeps from item to item."""

    worker: Worker[Any, Any]
    opened: Worker[Any, Any] | None = None
    stack = ExitStack()


def _start(worker: Worker[Any, Any]) -> None:
    """Leave signals to the parent, and end with it, even if it is killed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _State.worker = worker
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _do(item: Any) -> Any:
    """Opened with the first item and not before, so that what fails is said as it is."""
    if _State.opened is None:
        _State.opened = _State.stack.enter_context(_State.worker)
    return _State.opened.do(item)
