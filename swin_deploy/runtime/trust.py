"""Whether an unpacked bundle is the one that was made: every file, no other, and whose it is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from swin_deploy.data.classes import parse_class_names
from swin_deploy.errors import EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.plain_files import read_plain
from swin_deploy.runtime.shipped import BUNDLE, ENGINES, Shipped, parse_bundle

SIGNATURE = f"{BUNDLE}.sig"
_AGAIN = "unpack the archive again"


def open_bundle(folder: Path, verify_key: Path | None = None) -> Shipped:
    """Read the bundle in ``folder`` after comparing every file of it with its recorded hash.

    What is built here, in the folder ``engines``, is not part of it and has its own record.

    Args:
        folder: Where the archive was unpacked.
        verify_key: A PEM file with an Ed25519 public key that must have signed it; None to ask for
            no signature.

    Raises:
        InputError: There is no bundle in ``folder``, or the key is none.
        UnsafeError: A file was changed, added or taken away, is a link, or the signature is wrong.
        EnvironmentMissingError: A signature cannot be checked here.
    """
    path = folder / BUNDLE
    require_bundle(folder)
    if path.is_symlink():
        raise UnsafeError(f"{path} is a link", _AGAIN)
    content = read_plain(path)
    if verify_key is not None:
        require_signature(folder, content, verify_key)
    shipped = parse_bundle(folder, content, hashlib.sha256(content).hexdigest())
    _require_files(shipped)
    if shipped.labels is None:
        return shipped
    names = shipped.file(shipped.labels)
    return replace(shipped, label_names=parse_class_names(names.read(), names.path))


def require_bundle(folder: Path) -> None:
    """Check that there is a bundle in ``folder``, as far as a look tells.

    Raises:
        InputError: There is none.
    """
    if (folder / BUNDLE).is_file():
        return
    if folder.is_file():
        raise InputError(
            f"{folder} is a file, not the folder of a bundle",
            f"python3 -m zipfile -e {folder} {folder.with_suffix('')}, and that folder",
        )
    if (folder / "manifest.json").is_file():
        raise InputError(
            f"{folder} is a run, not a bundle", f"swin-deploy bundle {folder} --target cpu"
        )
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist", "the folder of an unpacked bundle")
    raise InputError(f"{folder} holds no bundle: it has no {BUNDLE}", _AGAIN)


def _require_files(shipped: Shipped) -> None:
    if unlisted := sorted(shipped.named() - shipped.files.keys()):
        raise UnsafeError(f"{shipped.folder / BUNDLE} names {unlisted[0]} and has no hash of it")
    present = _walk(shipped.folder)
    if added := sorted(present - shipped.files.keys() - {BUNDLE, SIGNATURE}):
        raise UnsafeError(
            f"{shipped.folder / added[0]} is not a file of the bundle", "move it elsewhere"
        )
    for name, recorded in sorted(shipped.files.items()):
        path = shipped.folder / name
        if name not in present:
            raise UnsafeError(f"{path} is missing", _AGAIN)
        if (found := path.stat().st_size) != recorded.bytes:
            raise UnsafeError(f"{path} has {found} bytes, {BUNDLE} says {recorded.bytes}", _AGAIN)
        shipped.file(name).read()


def _walk(folder: Path) -> set[str]:
    """All files of a bundle, relative to its folder, with "/" between names.

    Raises:
        UnsafeError: Some are links, or neither files nor folders.
    """
    found: set[str] = set()
    for root, folders, names in os.walk(folder):
        here = Path(root)
        for name in (*folders, *names):
            path = here / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UnsafeError(f"{path} is a link, or no file at all", _AGAIN)
        if here == folder and ENGINES in folders:
            folders.remove(ENGINES)
        found |= {(here / name).relative_to(folder).as_posix() for name in names}
    return found


def require_signature(folder: Path, content: bytes, key: Path) -> None:
    """Check that ``content`` was signed by the owner of ``key``, a PEM file (Ed25519).

    Raises:
        UnsafeError: There is no signature, or it is not of this content by this key.
        InputError: The key is none.
        EnvironmentMissingError: The library that checks it is not installed.
    """
    public = _read_key(key)
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    if path.is_symlink() or not path.is_file():
        raise UnsafeError(f"{folder} is not signed: it has no {SIGNATURE}", "the signed bundle")
    try:
        public.verify(base64.b64decode(read_plain(path).strip(), validate=True), content)
    except (InvalidSignature, binascii.Error) as error:
        raise UnsafeError(
            f"{path} is not a signature of {BUNDLE} by the owner of {key}",
            "the right key, or the bundle as its maker has it",
        ) from error


def _read_key(path: Path) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise EnvironmentMissingError(
            f"a signature cannot be checked: {error}",
            "pip install cryptography; on a Jetson: sudo apt install python3-cryptography",
        ) from error
    try:
        key = load_pem_public_key(read_plain(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except ValueError as error:
        raise InputError(f"{path} is no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is a key of another kind than Ed25519")
    return key
