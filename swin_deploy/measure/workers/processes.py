"""Items to results, in this process or in several, as each is done and in any order.

A worker is a process with a line of its own to this one. It says when it is open, takes one item at
a time, and gives a sign of life meanwhile. One that ends, gives no sign for too long, or is at its
item for longer than ``ItemClock`` allows, is killed, and the item goes to another.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from swin_deploy.core.process import (
    Heard,
    Line,
    answer_of,
    describe_exit,
    end_with_parent,
    message_of,
    result_of,
    start,
)
from swin_deploy.measure.workers.base import FIRST_S, ItemClock, Worker, count_loss

Item = TypeVar("Item")
Result = TypeVar("Result")

SIGN_EVERY_S = 1.0  # of life, from a worker
SILENT_S = 60.0  # after which a worker without one is of no use
START_S = 300.0  # likewise, before its first
_END_S = 5.0  # for a worker to close what it has open

# What a worker says beside its answers, which are in a tuple.
_HERE, _OPEN, _ALIVE = "here", "open", "alive"


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
    """By so many processes. One that dies or falls silent is replaced while there is work for it.

    Args:
        worker: What each of them opens.
        items: By name, what to do.
        workers: At least one.
        note: Is told when one was lost.

    Raises:
        ResourceError: An item, or the opening of a worker, took ``ATTEMPTS`` of them; or there is
            no memory to start one.
        SwinDeployError: As of the worker.
    """
    left, unfinished = deque(items), len(items)
    losses = Counter[str | None]()  # by item; None is the opening
    members: list[_Member] = []
    said: SimpleQueue[tuple[_Member, Heard]] = SimpleQueue()
    clock = ItemClock()
    seen = time.monotonic()
    try:
        while unfinished:
            while len(members) < min(workers, unfinished):
                members.append(_Member.start(worker, said, clock))
            for member in members:
                if member.idle and left:
                    name = left.popleft()
                    member.give(name, items[name])
            heard = _wait(said)
            # At most so much: this process may itself have been stopped, or busy with a result.
            passed = min(time.monotonic() - seen, 2 * SIGN_EVERY_S)
            seen = time.monotonic()
            for member in list(members):
                answers = member.hear([text for who, text in heard if who is member], passed)
                if member.lost is not None:
                    members.remove(member)
                    if member.idle:
                        note(f"a worker {member.lost} while it had nothing to do")
                    else:
                        why = f"; the last one {member.lost}"
                        count_loss(losses, member.item, member.lost, why, note)
                    left.extendleft([] if member.item is None else [member.item])
                    member.end()
                for done, answer in answers:
                    found = result_of(answer, "a worker")
                    if done is not None:
                        unfinished -= 1
                        yield done, found
    finally:
        _end(members)


def _wait(said: SimpleQueue[tuple[_Member, Heard]]) -> list[tuple[_Member, Heard]]:
    """All that was said since the last call; it waits a moment for something."""
    heard = []
    with suppress(Empty):
        heard.append(said.get(timeout=SIGN_EVERY_S))
        while True:
            heard.append(said.get_nowait())
    return heard


@dataclass(slots=True, eq=False)
class _Member:
    """A worker process, as this one sees it.

    Attributes:
        process: It.
        line: To it.
        item: That it has; None for none.
        idle: Whether it is open and has none.
        worker: What it opens.
        clock: Of all items.
        limit_s: Silence that is too long.
        silent_s: Since the last sign of life, as far as this process was there to hear it.
        busy_s: Likewise, since it was started or got its item.
        lost: What became of it, if it is of no use any more.
    """

    process: Any
    worker: Worker[Any, Any]
    clock: ItemClock
    line: Line = field(init=False)
    item: str | None = None
    idle: bool = False
    limit_s: float = START_S
    silent_s: float = 0.0
    busy_s: float = 0.0
    lost: str | None = None

    @classmethod
    def start(
        cls,
        worker: Worker[Any, Any],
        said: SimpleQueue[tuple[_Member, Heard]],
        clock: ItemClock,
    ) -> _Member:
        """It gets the worker when it says that it is here: one that never is cannot read it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        try:
            start(process)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        member = cls(process, worker, clock)
        try:
            member.line = Line(ours, lambda heard: said.put((member, heard)))
        except BaseException:
            process.kill()
            process.join()
            raise
        return member

    def give(self, name: str, item: object) -> None:
        self.item, self.idle, self.busy_s = name, False, 0.0
        self.line.send(item)

    def hear(self, messages: Sequence[Heard], passed_s: float) -> list[tuple[str | None, object]]:
        """Answers among the messages, each with the item that it is to: None for the opening."""
        found: list[tuple[str | None, object]] = []
        self.silent_s += passed_s
        self.busy_s += passed_s
        try:
            for message in messages:
                said = message_of(message)
                self.silent_s, self.limit_s = 0.0, SILENT_S
                if said == _HERE:
                    self.line.send(self.worker)
                elif isinstance(said, tuple):
                    found.append((self.item, said[0]))
                    if self.item is not None:
                        self.clock.done(self.busy_s)
                if said == _OPEN or isinstance(said, tuple):
                    self.item, self.idle = None, True
        except (EOFError, OSError):
            self.process.join(_END_S)
            self.lost = describe_exit(self.process.exitcode)
        if self.lost is None and self.silent_s > self.limit_s:
            self.lost = f"gave no sign of life for {self.limit_s:g} s"
        elif self.lost is None and not self.idle and self.busy_s > self._may_take_s:
            self.lost = f"was not done after {self._may_take_s:g} s"
        return found

    @property
    def _may_take_s(self) -> float:
        return FIRST_S if self.item is None else self.clock.limit_s

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.line.close()


def _end(members: list[_Member]) -> None:
    """Ask them to close what they have open, and kill those that do not."""
    for member in members:
        member.process.terminate()
    until = time.monotonic() + _END_S
    for member in members:
        member.process.join(max(0.0, until - time.monotonic()))
        member.end()


def _work(line: Connection) -> None:
    """What a worker process does, until it is terminated."""
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal: who started it decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    one_at_a_time = threading.Lock()

    def say(what: object) -> None:
        content = ForkingPickler.dumps(what)
        with one_at_a_time:
            try:
                line.send_bytes(content)
            except BaseException:
                line.close()  # nothing may follow upon half of a message
                raise

    def live() -> None:
        with suppress(OSError):
            while True:
                say(_ALIVE)
                time.sleep(SIGN_EVERY_S)

    with suppress(OSError):  # nobody is there any more to be told anything
        say(_HERE)
        threading.Thread(target=live, daemon=True).start()
        say((answer_of(_open_and_do, line, say),))  # why it goes no further
        line.close()


def _open_and_do(line: Connection, say: Callable[[object], None]) -> None:
    with line.recv() as opened:
        say(_OPEN)
        while True:
            say((answer_of(opened.do, line.recv()),))
