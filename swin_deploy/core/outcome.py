"""What becomes of a command line's errors and signals: one line, one exit code, everywhere."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from swin_deploy.core.errors import SwinDeployError, typed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop."""


class _Output:
    """A standard stream that ends where nobody takes what is written, and the command does not.

    What comes after goes nowhere, so that the exit code is that of the command: that a table could
    not be shown to its end does not make a network right or wrong.

    Args:
        stream: The stream itself.
        name: Of one that has to be whole, for the error; "" where nothing can be told of one.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def end(self) -> None:
        if self._failed:  # what is left in its buffer would fail again as the interpreter ends
            self._drop()

    def _try(self, call: Callable[..., int | None], *arguments: str) -> int | None:
        try:
            return call(*arguments)
        except OSError as error:
            if self._name and not isinstance(error, BrokenPipeError):
                self._failed = True  # and the next call fails as well: click passes over one
                raise OSError(error.errno, error.strerror, self._name) from error
            self._drop()  # `head`, for example, has seen enough
            return None

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def _lasting_outputs() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:

        def lasting(stream: TextIO | None, name: str) -> TextIO:
            if stream is None:  # it was closed before this process began
                stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            output = _Output(stream, name)
            stack.callback(output.end)
            return cast(TextIO, output)

        sys.stdout = lasting(sys.stdout, "standard output")
        sys.stderr = lasting(sys.stderr, "")
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@_lasting_outputs()
def run_command(
    command: Callable[[], int],
    as_json: bool,
    debug: bool,
    show: Callable[[SwinDeployError], None] = lambda error: None,
) -> int:
    """Run a command line; returns the exit code (see ``swin_deploy.core.errors``).

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
        with suppress(OSError, AttributeError):  # closed, or never there
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
    try:
        code = command()
        sys.stdout.flush()
        return code
    except Exception as error:
        if (known := typed(error)) is None:
            raise
        if debug:
            traceback.print_exc()
        if as_json:
            _print_json(known.as_dict())
        else:
            show(known)
        print(f"error[{known.code}]: {' '.join(str(known).split())}", file=sys.stderr, flush=True)
        return known.exit_code


def _print_json(error: dict[str, object]) -> None:
    with suppress(OSError):  # that it cannot be written may be what it says; a line says so, too
        print(json.dumps({"error": error}, indent=2), flush=True)
