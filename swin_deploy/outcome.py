"""What becomes of a command line's errors and signals: one line, one exit code, everywhere."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from swin_deploy.errors import SwinDeployError, typed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop."""


def run_command(
    command: Callable[[], int],
    as_json: bool,
    debug: bool,
    show: Callable[[SwinDeployError], None] = lambda error: None,
) -> int:
    """Run a command line; returns the exit code (see ``swin_deploy.errors``).

    Args:
        command: Does it; its result is the exit code if it raises nothing.
        as_json: Print an error as an object on standard output as well.
        debug: Print the traceback of an error.
        show: Prints the details of an error, before its line.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise _Interrupted

    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        return _catch(command, as_json, debug, show)
    except Exception as error:
        if not received:  # a bug of ours: its traceback is for whoever mends it
            if as_json:
                text = f"{type(error).__name__}: {error}"
                _print_json({"code": "E_BUG", "exit_code": 1, "message": text})
            raise
    except KeyboardInterrupt:
        received = received or [signal.SIGINT]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    # Whatever was raised after the signal, an import that was cut off for example, is its doing.
    code = 128 + received[0]  # as shells count
    if as_json:
        _print_json({"code": "E_INTERRUPTED", "exit_code": code, "message": "interrupted"})
    print("interrupted", file=sys.stderr)
    return code


def leave(code: int) -> NoReturn:
    """End the process with an exit code of ``run_command``."""
    if code > 128:  # native threads that were cut off may abort the interpreter's own end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _catch(
    command: Callable[[], int],
    as_json: bool,
    debug: bool,
    show: Callable[[SwinDeployError], None],
) -> int:
    def report(error: SwinDeployError) -> int:
        if debug:
            traceback.print_exc()
        if as_json:
            _print_json(error.as_dict())
        else:
            show(error)
        print(f"error[{error.code}]: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return error.exit_code

    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (known := typed(error)) is None:
            raise
        return report(known)


def _print_json(error: dict[str, object]) -> None:
    print(json.dumps({"error": error}, indent=2), flush=True)
