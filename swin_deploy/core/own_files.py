"""Our files among those of others, where no link is followed; and files that anybody has named.

What is opened to be written, or cleared away, has a name of ours and a place that anybody may have
taken before: a link there would lead the write, or the clearing, to a file of somebody else. So
files are opened by descriptor without following links, and looked at before a byte is written.

A pipe of that name would be waited for, for ever, and a device never ends. It is told by what was
opened, and not by a look before: in between it could become another.

Devices read files too, so this needs the standard library alone, and Python 3.10.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TextIO

from swin_deploy.core.errors import BusyError, InputError, UnsafeError

UNFINISHED = ".unfinished"  # what the names of folders end with that a write works in
# What says that a file system has no second names for files, or not for these.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}
_POLL_S = 0.1
_MOST_BYTES = 64 << 20  # of a journal, as of other records
_HOLDER = ("pid", "host", "since")


def open_own(path: Path, flags: int) -> int:
    """The descriptor of a file of ours, made if need be; the caller closes it.

    Args:
        path: Its folder exists.
        flags: As of ``os.open``, without those that truncate: what is opened is looked at first.
    """
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            _refuse(path)
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        _refuse(path)
    return handle


def own_folder(root: Path, name: str = "") -> Path:
    """A folder of ours, made if need be, with every part of it below ``root``.

    Args:
        root: Whoever named it may have named a link.
        name: Below it, relative; "" for ``root`` itself.
    """
    path = root
    for part in Path(name).parts:
        path = path / part
        try:
            path.mkdir()
        except FileExistsError:
            require_own_folder(path)
    return path


def require_own_folder(path: Path) -> bool:
    """Whether there is a folder of this name."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        _refuse(path)
    return True


def require_own_name(path: Path) -> Path:
    """``path``, for a writer that will follow what lies there, or write into it."""
    if path.is_symlink() or has_other_names(path):
        _refuse(path)
    return path


def has_other_names(path: Path) -> bool:
    """Whether what is written into this file is written into a file of another name as well."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink > 1


def _refuse(path: Path) -> None:
    kind = "is a link" if path.is_symlink() else "is not a plain file or folder of this tool's"
    raise UnsafeError(f"{path} {kind}, and nothing is written or cleared there", "remove it")


def remove_own_folder(path: Path) -> None:
    """Remove a folder of ours with all that is in it; links in it are removed, not followed."""
    if require_own_folder(path):
        shutil.rmtree(path)


@contextmanager
def lock_own(
    path: Path, what: str, hint: str, wait_s: float = 0, *, name_holder: bool = True
) -> Iterator[TextIO]:
    """Hold a file of ours alone, and have it open; the kernel lets go if this process dies.

    Args:
        path: Its folder exists.
        what: Is held, for the message.
        hint: What to try if somebody else has it.
        wait_s: So long is waited for them.
        name_holder: Write who holds it into it; otherwise the file is for the caller to write, who
            may say it in a line of JSON, under "holder".

    Raises:
        BusyError: Another process holds it; names it as far as it has said who it is.
    """
    with os.fdopen(
        _hold(path, what, hint, wait_s), "r+", encoding="utf-8", errors="replace"
    ) as stream:
        if name_holder:
            stream.truncate(0)
            stream.write(json.dumps(this_process()))
            stream.flush()
        try:
            yield stream
        finally:
            if name_holder:
                stream.truncate(0)


def _hold(path: Path, what: str, hint: str, wait_s: float) -> int:
    """The descriptor of the file that has the name when it is held; errors as of ``lock_own``.

    Who held it before may have removed it: what was opened until then is nobody's lock any more.
    """
    deadline = time.monotonic() + wait_s
    while True:
        handle = open_own(path, os.O_RDWR | os.O_APPEND)
        try:
            while not _try_lock(handle):
                if time.monotonic() >= deadline:
                    raise BusyError(f"{what} is in use{_holder(handle)}", hint)
                time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))
            if _has_name(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _has_name(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def this_process() -> dict[str, int | str]:
    """Who holds a lock: process, host, and since when."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return dict(zip(_HOLDER, (os.getpid(), socket.gethostname(), since), strict=True))


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    """Who said in a locked file that they hold it, the last in a journal; "" where nobody did."""
    try:
        content = os.pread(handle, _MOST_BYTES, 0)
        named = [line for line in content.splitlines() if b'"holder"' in line] or [content]
        who = json.loads(named[-1])
        who = who.get("holder", who)
        return f" by process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""  # it was taken a moment ago, or what holds it names nobody


@contextmanager
def unfinished_folder(beside: Path) -> Iterator[Path]:
    """A hidden folder in which a file is written that will lie ``beside`` it under its own name.

    It is held while it is in use. What a process leaves that dies is cleared by ``sweep``.
    """
    while True:
        made = tempfile.mkdtemp(
            prefix=f".{beside.name[:40]}.", suffix=UNFINISHED, dir=beside.parent
        )
        try:
            handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # somebody swept it before it was held; likewise below
            continue
        if _try_lock(handle) and os.path.isdir(made):
            break
        os.close(handle)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Clear away what writes left in a folder whose processes died; those under way stay."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ours = path.name.startswith(".") and path.name.endswith(UNFINISHED)
        if path.is_symlink() or not path.is_dir() or not ours:
            continue
        with suppress(FileNotFoundError):  # its write ends meanwhile, and clears it away itself
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _try_lock(handle):
                    shutil.rmtree(path)
            finally:
                os.close(handle)


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
