"""Damaged inputs by the million, in processes that may crash or hang; the outcomes are counted."""

from __future__ import annotations

import multiprocessing
import queue
import random
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fuzzing.subject import Subject
from swin_deploy.core.errors import SwinDeployError

LIMIT_S = 20.0  # of one file: reading a whole one takes some milliseconds
_GRACE_S = 10.0  # beyond it, code that no signal interrupts is killed with its process
_FLUSH = 200  # inputs between two messages of a worker
KEPT = 200  # failures of which the input is kept


class Hang(BaseException):
    """Reading took longer than the limit. No ``except Exception`` may take it for an error."""


@dataclass
class Findings:
    """What became of all inputs.

    Attributes:
        outcomes: (subject, what) -> count; what is "read", the code of a typed error, "untyped",
            "hang" or "crash".
        failures: (subject, what it was) -> the first input that did it.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def total(self, *names: str) -> int:
        """How many inputs came to one of these; to anything, without names."""
        return sum(n for (_, what), n in self.outcomes.items() if not names or what in names)


def read(subject: Subject, path: Path) -> tuple[str, str]:
    """What reading a file comes to, and of an untyped error where it was raised."""
    try:
        subject.read(path)
    except SwinDeployError as error:
        return error.code, ""
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "swin_deploy" in f.filename]
        where = ours[-1] if ours else last
        name = where.filename.rpartition("swin_deploy/")[2]
        return "untyped", f"{type(error).__name__} at {name}:{where.lineno}"
    return "read", ""


def read_in_time(subject: Subject, path: Path, limit_s: float = LIMIT_S) -> tuple[str, str]:
    """As ``read``; "hang" where it takes longer than the limit. For the main thread."""

    def ring(_number: int, frame: FrameType | None) -> None:
        raise Hang(f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return read(subject, path)
    except Hang as hang:
        return "hang", f"hang at {hang}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Inputs:
    """Damaged input number ``index`` of a seed; the same on any machine."""

    def __init__(self, subjects: Mapping[str, Subject], seed: int) -> None:
        self._seed, self._subjects = seed, subjects
        self._whole = {name: list(subject.whole().values()) for name, subject in subjects.items()}

    def make(self, index: int) -> tuple[str, bytes]:
        """Its subject, and its bytes."""
        choose = random.Random(f"{self._seed}:{index}")
        name = choose.choice(list(self._whole))
        return name, self._subjects[name].damage(choose.choice(self._whole[name]), choose)


def _work(
    folder: Path,
    subjects: Mapping[str, Subject],
    seed: int,
    indices: range,
    skipped: frozenset[int],
    deadline: float,
    limit_s: float,
    at: Any,
    results: Any,
) -> None:
    warnings.simplefilter("ignore")
    inputs, found = Inputs(subjects, seed), Findings()
    for position, index in enumerate(indices):
        if index not in skipped:
            name, content = inputs.make(index)
            path = folder / f"{index % indices.step}{subjects[name].suffix}"
            path.write_bytes(content)
            at[0], at[1] = index, int(time.monotonic())
            outcome, where = read_in_time(subjects[name], path, limit_s)
            found.outcomes[name, outcome] += 1
            if where and len(found.failures) < KEPT:
                found.failures.setdefault((name, where), content)
        if position % _FLUSH == _FLUSH - 1 or time.monotonic() > deadline:
            results.put((index + indices.step, found))
            found = Findings()
            if time.monotonic() > deadline:
                return
    results.put((indices.stop, found))


@dataclass
class _Worker:
    """A process, and what of its share is not yet counted."""

    share: range
    next: int
    skipped: frozenset[int] = frozenset()
    process: Any = None
    at: Any = None
    results: Any = None

    def take(self, findings: Findings) -> None:
        """Count what it handed over."""
        while True:
            try:
                self.next, part = self.results.get(timeout=0.1)
            except queue.Empty:
                return
            findings.outcomes += part.outcomes
            for key, content in part.failures.items():
                findings.failures.setdefault(key, content)


def fuzz(
    folder: Path,
    subjects: Mapping[str, Subject],
    *,
    count: int,
    seed: int = 0,
    workers: int = 1,
    seconds: float = float("inf"),
    limit_s: float = LIMIT_S,
) -> Findings:
    """Read ``count`` damaged inputs, or as many as there is time for.

    Args:
        folder: For the inputs; what a process that died was reading is left there.
        subjects: By name.
        count: Inputs, numbered from 0.
        seed: Of the damage.
        workers: Processes.
        seconds: After which no further input is read.
        limit_s: Of one input.
    """
    context = multiprocessing.get_context("spawn")
    deadline, findings = time.monotonic() + seconds, Findings()
    inputs = Inputs(subjects, seed)

    def start(worker: _Worker) -> None:
        worker.at, worker.results = context.Array("q", 2), context.Queue()
        rest = range(worker.next, worker.share.stop, worker.share.step)
        arguments = (
            folder,
            subjects,
            seed,
            rest,
            worker.skipped,
            deadline,
            limit_s,
            worker.at,
            worker.results,
        )
        worker.process = context.Process(target=_work, args=arguments)
        worker.process.start()

    running = [_Worker(share=range(n, count, workers), next=n) for n in range(min(workers, count))]
    for worker in running:
        start(worker)
    while running:
        for worker in list(running):
            worker.take(findings)
            since = worker.at[1]
            stuck = since and time.monotonic() - since > limit_s + _GRACE_S
            if worker.process.is_alive() and not stuck:
                continue
            worker.process.kill()
            worker.process.join()
            worker.take(findings)
            if worker.process.exitcode == 0:
                running.remove(worker)
                continue
            index = worker.at[0]
            if index >= worker.next:  # else it was not stuck: its outcome came after all
                name, content = inputs.make(index)
                what = "hang" if stuck else "crash"
                findings.outcomes[name, what] += 1
                fault = f"{what}, exit {worker.process.exitcode}"
                findings.failures.setdefault((name, fault), content)
                worker.skipped |= {index}
            start(worker)
    return findings
