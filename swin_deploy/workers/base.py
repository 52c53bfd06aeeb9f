"""What a worker is: something that is opened once, and then makes items into results.

What comes out of an item may depend on the item and on the settings, never on which worker has it
or on how many there are. In sums of floats that takes the same threads for all of them.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from swin_deploy.errors import InputError, UnsafeError
from swin_deploy.files import digest, sha256, source_digest
from swin_deploy.installed import package_version
from swin_deploy.machine import PACKAGES

ATTEMPTS = 3  # at an item; one that takes three workers with it would take the fourth

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Worker(Protocol[Item, Result]):
    """Pickles before it is entered. What it raises is a ``SwinDeployError``, or a bug."""

    def __enter__(self) -> Self:
        """Open what all items need."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def do(self, item: Item) -> Result:
        """The result of one item."""


def software() -> str:
    """Digest of what else the results depend on: this package, and the runtimes."""
    versions = {name: package_version(name) for name in PACKAGES}
    return digest({"source": source_digest(), "packages": versions})


def require_same(path: Path, expected: str, also: tuple[Path, ...] = ()) -> None:
    """Look whether a file is here, as it was where it was named.

    Args:
        path: Of the file.
        expected: Its SHA-256.
        also: Where its bytes may lie by now: as of ``Recorded``.

    Raises:
        InputError: There is none.
        UnsafeError: It is another one.
    """
    found = []
    for place in (path, *also, path):
        if place.is_file():
            with suppress(FileNotFoundError):  # a publication moved it on
                found.append(sha256(place))
        if found[-1:] == [expected]:
            return
    if not found:
        raise InputError(
            f"{path} is not there on {socket.gethostname()}",
            "files at the same path on every machine",
        )
    raise UnsafeError(
        f"{path} on {socket.gethostname()} has sha256 {found[0][:12]}, not {expected[:12]}",
        "the same files on every machine",
    )
