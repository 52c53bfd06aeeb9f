"""Native code that may crash or hang runs in a child process, which answers or fails cleanly."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

from swin_deploy.core.errors import ResourceError, SwinDeployError, present, typed

P = ParamSpec("P")
T = TypeVar("T")

Report = Callable[[Any], None]

_LOG_TAIL_LINES = 12
_CLOSE_S = 5.0  # for threads to find that nobody is at the other end of a line
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def run_in_child(
    function: Callable[P, T], log: Path, timeout_s: float, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call ``function`` in a fresh interpreter and return what it returned.

    Args:
        function: A module-level function; its arguments and its result must pickle.
        log: Gets everything that the child writes to its standard streams.
        timeout_s: After so many seconds the child is killed.
        *args: Of ``function``.
        **kwargs: Of ``function``.

    Raises:
        ResourceError: The child was killed by a signal or by the clock, or ended without an
            answer; carries the end of its log.
        SwinDeployError: What ``function`` itself raised.
    """
    return _run(function, log, timeout_s, None, args, kwargs)  # type: ignore[no-any-return]


def run_reporting(
    function: Callable[Concatenate[Report, P], T],
    log: Path,
    timeout_s: float,
    heard: Report,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """As ``run_in_child``, of a function that tells how far it is.

    Args:
        function: Its first argument is given here: a call of it with anything that pickles is a
            call of ``heard`` in this process.
        log: As there.
        timeout_s: Likewise.
        heard: Must not take long: the child waits meanwhile.
        *args: Of ``function``, after the first.
        **kwargs: Of ``function``.

    Raises:
        SwinDeployError: What ``function`` itself raised.
    """
    return _run(function, log, timeout_s, heard, args, kwargs)  # type: ignore[no-any-return]


def _run(
    function: Callable[..., Any],
    log: Path,
    timeout_s: float,
    heard: Report | None,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer, args=(theirs, log, function, heard is not None, args, kwargs), daemon=True
    )
    name = f"{function.__module__}.{function.__qualname__}"
    end = time.monotonic() + timeout_s
    start(process)
    theirs.close()
    said: SimpleQueue[Heard] = SimpleQueue()
    line = None
    try:
        line = Line(ours, said.put)
        while True:
            answer = message_of(said.get(timeout=max(end - time.monotonic(), 0)))
            if not isinstance(answer, _Told):
                return result_of(answer, name)
            present(heard)(answer.what)  # or the function got nothing to tell with
    except Empty:
        raise ResourceError(
            f"{name} was stopped after {timeout_s:g} s{_tail(log)}", "a faster machine"
        ) from None
    except (EOFError, ConnectionResetError):
        process.join()
        raise ResourceError(
            f"{name} {describe_exit(process.exitcode)}{_tail(log)}",
            "swin-deploy doctor, and the log above",
        ) from None
    finally:
        process.kill()
        process.join()
        if line is not None:
            line.close()


Heard = bytes | BaseException


class Line:
    """This end of a connection to a child. Threads read and write it, so that clocks run beside.

    Within a message of a child that was stopped ``recv`` would wait for ever, and so would ``send``
    for one that was stopped while it reads.

    Args:
        connection: Is the line's from now on.
        hear: Gets every message when it is whole, and why there are no more; from another thread.
    """

    def __init__(self, connection: Connection, hear: Callable[[Heard], None]) -> None:
        self._connection = connection
        self._threads = [_started(self._read, hear)]

    def _read(self, hear: Callable[[Heard], None]) -> None:
        try:
            while True:
                hear(self._connection.recv_bytes())
        except BaseException as error:
            hear(error)

    def send(self, what: object) -> None:
        """Begin to send; one message at a time, that is, when the last was answered."""
        content = ForkingPickler.dumps(what)
        self._threads[1:] = [_started(self._send, content)]

    def _send(self, content: object) -> None:
        with suppress(OSError):  # nobody is there, and that is what the other thread hears
            self._connection.send_bytes(content)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let go of it, when the child is gone; unless a child of its own holds the other end."""
        for thread in self._threads:
            thread.join(_CLOSE_S)
        if not any(thread.is_alive() for thread in self._threads):
            self._connection.close()


def _started(function: Callable[[Any], None], argument: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=(argument,), daemon=True)
    thread.start()
    return thread


def message_of(heard: Heard) -> Any:
    """What was sent.

    Raises:
        EOFError: Nobody is at the other end.
        OSError: Likewise.
    """
    if isinstance(heard, BaseException):
        raise heard
    return ForkingPickler.loads(heard)


def start(process: Any) -> None:
    """Start a process of ``multiprocessing``.

    Raises:
        ResourceError: There is no memory for it, or it ended before it had read what to do.
    """
    try:
        process.start()
    except OSError as error:
        raise ResourceError(
            f"no process could be started: {error.strerror}", "more memory, or fewer --workers"
        ) from error


def end_with_parent() -> None:
    """Have the kernel kill this child, of ``multiprocessing``, when who started it is gone.

    It is the thread that started it that counts, so that one has to wait for it.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it went before it was asked for
        os._exit(1)


class _Told:
    def __init__(self, what: object) -> None:
        self.what = what


class _Bug:
    def __init__(self, text: str) -> None:
        self.text = text


def answer_of(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> object:
    """What a function returns, or what it raises, as a value that ``result_of`` takes."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return typed(error) or _Bug(traceback.format_exc())


def result_of(answer: Any, name: str) -> Any:
    """What ``answer_of`` saw returned in a child that was to do ``name``; raises what it raised."""
    if isinstance(answer, SwinDeployError):
        raise answer
    if isinstance(answer, _Bug):
        raise RuntimeError(f"{name} failed in its child process:\n{answer.text}")
    return answer


def _answer(
    connection: Connection,
    log: Path,
    function: Callable[..., object],
    reports: bool,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and kills this process
    with log.open("wb") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
        os.dup2(sink.fileno(), sys.stderr.fileno())
    if reports:
        args = (lambda what: connection.send(_Told(what)), *args)
    connection.send(answer_of(function, *args, **kwargs))
    connection.close()


def describe_exit(code: int | None) -> str:
    """How a process ended that gave no answer."""
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with status {code} and no answer"


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "; its log ends: " + " | ".join(lines) if lines else ""
