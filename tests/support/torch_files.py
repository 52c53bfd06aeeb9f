"""Files of ``torch.save`` for tests: written by PyTorch, and then changed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["archive", "before 1.6"])
WEIGHT = {"w": torch.ones(2, 2)}


def save(path: Path, content: object, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def rewrite(path: Path, change: Callable[[str, bytes], bytes], **options: Any) -> Path:
    """An archive with other records, each with the right checksum."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return path


def with_pickle(path: Path, content: bytes) -> Path:
    save(path, WEIGHT)
    return rewrite(path, lambda name, old: content if name.endswith("data.pkl") else old)
