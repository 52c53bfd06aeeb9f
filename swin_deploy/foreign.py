"""Readers from elsewhere, and what they raise over bytes that no writer wrote.

Devices read files too, so this needs the standard library alone, and Python 3.10.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from swin_deploy.errors import InputError, typed

_AGAIN = "make or copy it again"
_LONGEST = 240  # characters of a reader's own words
# What offsets in a damaged archive lead to; any other of the system's errors is its own.
_ODD = (errno.EINVAL, errno.EOVERFLOW)


@contextmanager
def reading(what: object, kind: str, hint: str = _AGAIN) -> Iterator[None]:
    """Blame the file for whatever its bytes lead a reader to raise within the block.

    Zip, pickle, NumPy, protobuf, ONNX, safetensors, TOML and Pillow have no errors in common, and
    over damaged bytes raise those of Python as well. So the block holds calls of readers, and
    nothing of ours that could have a bug.

    Args:
        what: The file, or the part of one, for the message.
        kind: What it should be, with its article.
        hint: What to try.

    Raises:
        InputError: For all that is no typed error, and none of the operating system.
        SwinDeployError: What was typed already; memory that ran out; what the system refused.
        OSError: Of a kind that has no type.
    """
    try:
        yield
    except Exception as error:
        if (known := typed(error)) is not None:
            raise known from (error if known is not error else error.__cause__)
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _ODD:
            raise
        raise InputError(
            f"{what} is not {kind}, or is damaged: {reason_of(error)}", hint
        ) from error


def reason_of(error: BaseException) -> str:
    """What an error of others says, on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
