"""Native code that may crash or hang runs in a child process, which answers or fails cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from swin_deploy.errors import ResourceError, SwinDeployError, from_os_error

P = ParamSpec("P")
T = TypeVar("T")

_LOG_TAIL_LINES = 12


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
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer, args=(theirs, log, function, args, kwargs), daemon=True
    )
    name = f"{function.__module__}.{function.__qualname__}"
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise ResourceError(
                f"{name} was stopped after {timeout_s:g} s{_tail(log)}", "a faster machine"
            )
        answer = ours.recv()
    except EOFError:
        process.join()
        raise ResourceError(
            f"{name} {_describe_exit(process.exitcode)}{_tail(log)}",
            "swin-deploy doctor, and the log above",
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(answer, SwinDeployError):
        raise answer
    if isinstance(answer, _Bug):
        raise RuntimeError(f"{name} failed in its child process:\n{answer.text}")
    return answer  # type: ignore[no-any-return]


class _Bug:
    def __init__(self, text: str) -> None:
        self.text = text


def _answer(
    connection: Connection,
    log: Path,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and kills this process
    with log.open("wb") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
        os.dup2(sink.fileno(), sys.stderr.fileno())
    try:
        answer: object = function(*args, **kwargs)
    except SwinDeployError as error:
        answer = error
    except OSError as error:
        answer = from_os_error(error) or _Bug(traceback.format_exc())
    except Exception:  # carried over and raised again in the parent, as the bug that it is
        answer = _Bug(traceback.format_exc())
    connection.send(answer)
    connection.close()


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with status {code} and no answer"


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "; its log ends: " + " | ".join(lines) if lines else ""
