"""One kind of file that is fuzzed, and how files of text and of bytes are damaged."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzzing.mutation import mutated

Damage = Callable[[bytes, random.Random], bytes]

# Bits that mean something to one of the readers.
_TEXT = (
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"=", b"\n", b"#", b"\\", b"\\ud800"),
    *(b"\0", b"\xff", b"\xff\xfe", b"../../x", b'"x"', b"[]", b"{}"),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"2147483648", b"1000000007", b"0.5"),
    *(b"9" * 5000, b"0x" + b"f" * 6000, b"[" * 3000, b'{"a":' * 3000),
    *(b"[[a]]\n", b'"""', b"1979-05-27"),
)
_BINARY = (
    *(b"\0" * 64, b"\xff" * 8, b"PK\x03\x04", b"\x93NUMPY", b"((((", b"\x80\x04", b"|O", b"\x7f"),
    b"'descr': '|O'",
)
text: Damage = partial(mutated, pieces=_TEXT)
binary: Damage = partial(mutated, pieces=_BINARY)
both: Damage = partial(mutated, pieces=_TEXT + _BINARY)


@dataclass(frozen=True)
class Subject:
    """One kind of file. All functions can be handed to another process.

    Attributes:
        suffix: Of its name.
        whole: Makes small files that can be read, by what they are.
        read: Reads one as commands do.
        damage: Gives a damaged copy.
    """

    suffix: str
    whole: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]
    damage: Damage
