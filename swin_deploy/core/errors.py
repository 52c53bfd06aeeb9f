"""Every error this package raises on purpose, each with its exit code; and checks of numbers.

    SwinDeployError            exit 1   something we know how to explain
      ConfigError              exit 2   the request itself cannot be met
      InputError               exit 3   a file or folder that was handed in is unusable
      EnvironmentMissingError  exit 4   a library, a GPU or a version that it needs is not here
      VerificationError        exit 5   it ran, and the numbers are wrong
      ResourceError            exit 6   disk full, out of memory, time limit, a child process died
      BusyError                exit 7   another process is writing the same run
      UnsafeError              exit 8   refused: the file is not the one that was recorded
      FileAccessError          exit 9   no permission, or a read-only place

Anything else that escapes is a bug in this package: exit 1, with its traceback. Interrupts exit
with 128 + the signal's number: 130 (SIGINT), 143 (SIGTERM), 129 (SIGHUP).
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar


class SwinDeployError(Exception):
    """Base class; ``str(error)`` is exactly what the command line prints after the code.

    Args:
        problem: What happened, to which thing, with the values that disagree.
        hint: The next thing to try, as a command or a setting. Empty if we do not know one.
        details: More of it, JSON-able, for ``--json``.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "E_FAILED"

    def __init__(self, problem: str, hint: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(problem, hint, details)  # all in args, so the error survives pickling
        self.problem = problem
        self.hint = hint
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.problem}; try: {self.hint}" if self.hint else self.problem

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "message": self.problem,
            "hint": self.hint,
            **self.details,
        }


class ConfigError(SwinDeployError):
    """The settings contradict each other or the model."""

    exit_code = 2
    code = "E_CONFIG"


class UsageError(ConfigError):
    """The command line itself cannot be read."""

    code = "E_USAGE"


class InputError(SwinDeployError):
    """A checkpoint, graph, image or folder that was handed in cannot be used."""

    exit_code = 3
    code = "E_INPUT"


class EnvironmentMissingError(SwinDeployError):
    """A library, a device or a version that the request needs is not on this machine."""

    exit_code = 4
    code = "E_ENVIRONMENT"


class VerificationError(SwinDeployError):
    """Two runtimes disagree by more than the measured floor for that hop."""

    exit_code = 5
    code = "E_VERIFY"


class ResourceError(SwinDeployError):
    """The disk, the memory or the time ran out, or a child process died."""

    exit_code = 6
    code = "E_RESOURCE"


class BusyError(SwinDeployError):
    """Another process holds the lock of the run folder."""

    exit_code = 7
    code = "E_BUSY"


class UnsafeError(SwinDeployError):
    """The file is not the one whose hash was recorded, or nothing was recorded."""

    exit_code = 8
    code = "E_UNSAFE"


class FileAccessError(SwinDeployError):
    """A file or folder cannot be read or written."""

    exit_code = 9
    code = "E_ACCESS"


def raise_all(problems: Iterable[SwinDeployError]) -> None:
    """Raise what was found, so that whoever asked can mend all of it at once.

    Args:
        problems: What is wrong, in the order in which it shall be told; none if all is well.
    """
    found = list({str(problem): problem for problem in problems}.values())
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    leading = (p for kind in (UnsafeError, ConfigError) for p in found if isinstance(p, kind))
    texts = [f"({number}) {problem}" for number, problem in enumerate(found, 1)]
    raise type(next(leading, found[0]))(
        f"{len(found)} things are wrong: {'; '.join(texts)}",
        details={"problems": [problem.as_dict() for problem in found]},
    )


class Checked:
    """A request that is checked when it is made, and tells all that is wrong at once."""

    __slots__ = ()

    def __post_init__(self) -> None:
        raise_all(self.problems())

    def problems(self) -> Iterable[SwinDeployError]:
        """All that is wrong with it."""
        raise NotImplementedError


def caught(check: Callable[..., object], *arguments: object) -> Iterator[SwinDeployError]:
    """Call a check, and yield what it raises, for ``raise_all``."""
    try:
        check(*arguments)
    except SwinDeployError as error:
        yield error


_OS_ERRORS: tuple[tuple[type[SwinDeployError], str, set[int]], ...] = (
    (ResourceError, "free some space, or another disk", {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}),
    (ResourceError, "a higher ulimit -n, or fewer programs at once", {errno.EMFILE, errno.ENFILE}),
    (ResourceError, "more memory, or fewer programs at once", {errno.ENOMEM, errno.EAGAIN}),
    (ResourceError, "another disk: this one fails", {errno.EIO}),
    (
        FileAccessError,
        "another folder, or mend the permissions",
        {
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.EEXIST,
            errno.ENAMETOOLONG,
            errno.ELOOP,
            errno.ENOENT,
        },
    ),
)
# Of PyTorch, C++, ONNX Runtime, CUDA and Python's threads, all within errors of many types.
_NO_SPACE = re.compile(r"No space left on device|os error 28\b|File too large|os error 27\b")
_NO_MEMORY = re.compile(
    r"(can't|fail(ed|s|ure)? to|cannot) allocate|bad.alloc(ation)?|\bout of memory"
    r"|failed to map segment|can't start new thread|pthread_create.* failed",
    re.I,
)
# Of protobuf, in its two implementations: the format has no place for more than 2 GiB.
_TOO_LARGE = re.compile(r"Failed to serialize proto|exceeds maximum protobuf size")


def from_os_error(error: OSError) -> SwinDeployError | None:
    """The typed error for what the operating system refused; None if it is not one we know."""
    where = "a file" if error.filename is None else _shown(error.filename)
    reason = error.strerror or str(error)
    for kind, hint, numbers in _OS_ERRORS:
        if error.errno in numbers:
            return kind(f"{where}: {reason}", hint)
    return None


def _shown(name: object) -> str:
    """A file's name in characters that every stream takes; an open handle has a number alone."""
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else f"file {name}"
    return text.encode(errors="backslashreplace").decode()


def typed(error: BaseException) -> SwinDeployError | None:
    """The typed error for anything that was raised; None if it is a bug."""
    if isinstance(error, SwinDeployError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error)
    if isinstance(error, Exception) and _NO_SPACE.search(str(error)):  # of safetensors, ONNX
        return ResourceError(f"a disk is full: {str(error)[:200]}", "free some space")
    if isinstance(error, MemoryError) or (
        # ONNX Runtime's exceptions are no RuntimeErrors.
        isinstance(error, Exception) and _NO_MEMORY.search(str(error))
    ):
        return ResourceError("out of memory", "a smaller network or batch")
    if isinstance(error, Exception) and _TOO_LARGE.search(str(error)):
        return ResourceError("the graph is larger than an ONNX file of 2 GiB", "a smaller network")
    return None


T = TypeVar("T")


def present(value: T | None) -> T:
    """``value``, which cannot be None."""
    if value is None:
        raise RuntimeError("a value is missing that has to be there")
    return value


def of_kind(kind: type[T], value: object) -> T:
    """``value``, which cannot be of any other type."""
    if not isinstance(value, kind):
        raise RuntimeError(f"a {type(value).__name__} where a {kind.__name__} has to be")
    return value


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """What may have been meant: the names that are spelled most like it, or else all of them."""
    known = list(names)
    return difflib.get_close_matches(name, known, most, cutoff=0.4) or known


_SHOWN = 5  # names in an error, of possibly hundreds


def some(items: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


MOST_IMAGES = 4096  # at a time
_MOST_AT_ONCE = 1024  # more than any machine has use for, and few enough for it to stay usable
_MOST = {"threads": _MOST_AT_ONCE, "workers": _MOST_AT_ONCE, "batch": MOST_IMAGES}


def wrong_counts(**counts: int | None) -> Iterator[ConfigError]:
    """An error for every setting that is there and out of its bounds.

    Args:
        counts: Of "threads", "workers" and "batch"; None for one that was not set.
    """
    for name, value in counts.items():
        if value is not None and not 1 <= value <= _MOST[name]:
            yield ConfigError(f"{name} = {value} is not from 1 to {_MOST[name]}")


def wrong_seed(seed: int) -> Iterator[ConfigError]:
    """An error for a seed that PyTorch, numpy and all others do not take alike."""
    if not 0 <= seed < 2**31:
        yield ConfigError(f"seed {seed} is not from 0 to {2**31 - 1}")
