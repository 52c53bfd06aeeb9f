"""Timings of kernels that earlier builds took: one file per GPU, TensorRT and CUDA.

They save time and decide nothing that a build without them would not decide by its own timings, so
one that is damaged, foreign or in use is done without, and the build says so.
"""

from __future__ import annotations

import re
from pathlib import Path

from swin_deploy.core.errors import BusyError, InputError, UnsafeError
from swin_deploy.core.files import atomic_path, cache_folder
from swin_deploy.core.own_files import lock_own, read_plain
from swin_deploy.engine.here import Fingerprint

NONE = "none"  # what --timing-cache takes for none
LIMIT_BYTES = 1 << 30  # of one file; no build of ours comes near


def default_folder() -> Path:
    """Where timing caches lie if nobody says otherwise."""
    return cache_folder("timing")


def cache_file(folder: Path, here: Fingerprint, cuda: str) -> Path:
    """The file for one GPU, version of TensorRT and version of CUDA.

    Args:
        folder: Of all of them.
        here: The machine, with its GPU.
        cuda: The version that its driver has.
    """
    chip = (here.compute_capability or "none").replace(".", "")
    parts = (here.device or "gpu", f"sm{chip}", f"{here.module}{here.version}", f"cuda{cuda}")
    return folder / ("-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts) + ".timing")


def read_cache(path: Path, what: str = "timing cache") -> tuple[bytes, str]:
    """Content of a cache, and why it is not taken; empty where it does not exist yet."""
    try:
        if path.is_file() and path.stat().st_size > LIMIT_BYTES:
            return b"", f"{what} {path} is larger than {LIMIT_BYTES:,} bytes"
        return read_plain(path), ""
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"{what} {path} cannot be read: {error.strerror}"
    except InputError as error:
        return b"", f"{what}: {error.problem}"


def write_cache(path: Path, content: bytes) -> str:
    """Replace a cache as a whole; returns why that was not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        with lock_own(lock, str(path), "wait for it"), atomic_path(path) as scratch:
            scratch.write_bytes(content)
    except (BusyError, UnsafeError) as error:
        return f"timing cache {path} was not kept: {error.problem}"
    except OSError as error:
        return f"timing cache {path} was not kept: {error.strerror}"
    return ""
