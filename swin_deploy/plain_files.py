"""Files that anyone may have named: only a plain one is read, whatever else has its name.

A pipe of that name would be waited for, for ever, and a device never ends. It is told by what was
opened, and not by a look before: in between it could become another.

Devices read files too, so this needs the standard library alone, and Python 3.10.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from swin_deploy.errors import InputError


def open_plain(path: Path) -> BinaryIO:
    """The file, open to be read; the caller closes it.

    Raises:
        InputError: It is a pipe, a device or a socket.
        OSError: It is missing or a folder, or cannot be read.
    """
    return open(path, "rb", opener=_open)


def read_plain(path: Path) -> bytes:
    """All of a file; errors as of ``open_plain``."""
    with open_plain(path) as stream:
        return stream.read()


def _open(name: str, flags: int) -> int:
    try:
        handle = os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.exists(name) and not os.path.isdir(name) and not os.path.isfile(name):
            raise _no_file(name) from error  # a socket cannot be opened at all
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # ``open`` itself refuses a folder
        os.close(handle)
        raise _no_file(name)
    os.set_blocking(handle, True)
    return handle


def _no_file(name: str) -> InputError:
    return InputError(f"{name} is no file")
