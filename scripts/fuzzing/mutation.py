"""Bytes changed, taken out, put in, or repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

_EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\x7f\0\0", b"\0\0\0\x80")


def mutated(content: bytes, choose: random.Random, pieces: Sequence[bytes]) -> bytes:
    """A copy with one to five changes.

    Args:
        content: Of a whole file.
        choose: Decides on all of it.
        pieces: What means something in such a file, to be put in anywhere.
    """
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 5))):
        at = choose.randrange(len(changed) + 1)
        kind = choose.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([choose.randrange(256)])
        elif kind == 1:
            changed[at:at] = choose.choice(pieces)
        elif kind == 2:
            del changed[at : at + choose.choice((1, 2, 8, 100))]
        elif kind == 3:
            source = choose.randrange(len(changed) + 1)
            changed[at:at] = changed[source : source + choose.choice((1, 4, 30))]
        else:
            changed[at : at + 4] = choose.choice(_EXTREMES)
    return bytes(changed)
