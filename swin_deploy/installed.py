"""Which version of a distribution is installed."""

from __future__ import annotations

import importlib.metadata


def package_version(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it; None if it is not there."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
