"""Signatures of bundles: Ed25519, by the ``cryptography`` package."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from swin_deploy.errors import EnvironmentMissingError, InputError
from swin_deploy.plain_files import read_plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file, as ``openssl genpkey -algorithm ed25519`` writes it.

    Raises:
        EnvironmentMissingError: ``cryptography`` is not installed.
        InputError: It is no such key, or is locked with a password.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise EnvironmentMissingError(
            f"a bundle cannot be signed: {error}", "pip install cryptography"
        ) from error
    try:
        key = load_pem_private_key(read_plain(path), password=None)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist", f"openssl genpkey -algorithm ed25519 -out {path}"
        ) from error
    except TypeError as error:  # it wants a password
        raise InputError(f"{path} cannot be read: {error}", "a key without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{path} is a key of another kind than Ed25519", "openssl genpkey -algorithm ed25519"
        )
    return key


def sign(key: Ed25519PrivateKey, content: bytes) -> bytes:
    """The signature of ``content``: 64 bytes, as base64 on one line."""
    return base64.b64encode(key.sign(content)) + b"\n"
