"""What a worker is: something that is opened once, and then makes items into results.

What comes out of an item may depend on the item and on the settings, never on which worker has it
or on how many there are. In sums of floats that takes the same threads for all of them.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from swin_deploy.core.errors import InputError, ResourceError, UnsafeError
from swin_deploy.core.files import digest, package_version, sha256, source_digest
from swin_deploy.engine.here import PACKAGES

ATTEMPTS = 3  # at an item; one that takes three workers with it would take the fourth

# How long an item may take. What hangs for ever is found, and what is only slow is left alone.
ITEM_S = 900.0  # at the least: a shard takes seconds, and on a slow machine minutes
SLOWER = 10  # or so many times as long as any that was done: items are alike, machines less so
FIRST_S = 86400.0  # before any was done: one that is all of 50,000 photos may take hours

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Worker(Protocol[Item, Result]):
    """Pickles before it is entered. What it raises is a ``SwinDeployError``, or a bug."""

    def __enter__(self) -> Self:
        """Open what all items need."""

    def __exit__(self, *error: object) -> None: ...

    def do(self, item: Item) -> Result:
        """The result of one item."""


@dataclass(slots=True)
class ItemClock:
    """Says how long an item may take, by those that were done.

    Attributes:
        longest_s: That one took; None before the first.
    """

    longest_s: float | None = None

    @property
    def limit_s(self) -> float:
        """For the next one."""
        return FIRST_S if self.longest_s is None else max(ITEM_S, SLOWER * self.longest_s)

    def done(self, took_s: float) -> None:
        """Hear of one."""
        self.longest_s = max(took_s, self.longest_s or 0.0)


def count_loss(
    losses: Counter[str | None], item: str | None, how: str, why: str, note: Callable[[str], None]
) -> None:
    """Note that a worker was lost with an item, or while it opened, which is None.

    Raises:
        ResourceError: That is ``ATTEMPTS`` of them.
    """
    losses[item] += 1
    what = "while it opened its files" if item is None else f"with {item}"
    if losses[item] == ATTEMPTS:
        raise ResourceError(
            f"{ATTEMPTS} workers were lost {what}{why}",
            "fewer --workers, a smaller batch, or more memory",
        )
    note(f"a worker {how} {what}; another takes its place")


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
