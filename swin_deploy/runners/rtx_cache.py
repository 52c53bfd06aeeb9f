"""What TensorRT-RTX compiled on this GPU, kept for the next start. See ``TensorRtRunner``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from swin_deploy.errors import InputError, from_os_error
from swin_deploy.files import atomic_path, cache_folder, digest
from swin_deploy.plain_files import read_plain

_DIGEST_BYTES = hashlib.sha256().digest_size


def kernel_cache_folder() -> Path:
    """Where caches lie if nobody says otherwise."""
    return cache_folder("rtx")


def kernel_cache_file(folder: Path, plan_sha256: str, device: str, version: str) -> Path:
    """The file of an engine on one GPU, driver and version: others have other names.

    Args:
        folder: Where caches lie.
        plan_sha256: Of the engine.
        device: The GPU and its driver, in any words.
        version: Of the library.
    """
    return folder / f"{digest([plan_sha256, device, version])[:32]}.bin"


def read_kernel_cache(path: Path) -> tuple[bytes, str]:
    """What was kept, b"" if nothing was, and a note if there is a file but it is no good."""
    try:
        content = read_plain(path)
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"runtime cache {path} cannot be read: {error.strerror}"
    except InputError as error:
        return b"", f"runtime cache: {error.problem}"
    expected, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(blob).digest() != expected:
        return b"", f"runtime cache {path} is damaged; its kernels are compiled anew"
    return blob, ""


def write_kernel_cache(path: Path, blob: bytes) -> str:
    """Keep it, whole or not at all; a note if that cannot be: an engine runs without, too."""
    try:
        with atomic_path(path) as scratch:
            scratch.write_bytes(hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        return f"runtime cache not kept: {from_os_error(error) or error}"
    return ""
