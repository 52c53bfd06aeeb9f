"""A checkpoint in several files, as transformers writes large ones: an index, and the shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from swin_deploy.core.errors import InputError, some
from swin_deploy.core.files import require_plain_file, sha256
from swin_deploy.network.checkpoints.source import INDEX, Sidecar, read_as

_MOST_SHARDS = 1000


class _Index(Sidecar):
    weight_map: dict[str, str]


def shards_of(index: Path) -> dict[str, tuple[str, ...]]:
    """Names of the shards of an index, with the names of the tensors in each.

    Raises:
        InputError: One of them is no name of a file.
    """
    names: dict[str, list[str]] = {}
    for tensor, shard in read_as(_Index, index).weight_map.items():
        names.setdefault(shard, []).append(tensor)
    strange = [shard for shard in names if Path(shard).name != shard or shard in (".", "..")]
    if strange or not names or len(names) > _MOST_SHARDS:
        raise InputError(
            f"{index} names {len(names)} shards" + (f", no files: {some(strange)}" * bool(strange))
        )
    return {shard: tuple(tensors) for shard, tensors in names.items()}


def read_index(index: Path) -> dict[Path, tuple[str, ...]]:
    """The shards of an index, which lie beside it, with the names of the tensors in each.

    Raises:
        InputError: Some are not there, or it names no files.
    """
    names = shards_of(index)
    missing = [shard for shard in names if not (index.parent / shard).exists()]
    if missing:
        raise InputError(
            f"{index} names {len(names)} shards, of which {len(missing)} are not beside it: "
            f"{some(missing)}",
            "the whole folder, copied or downloaded again",
        )
    for shard in names:
        require_plain_file(index.parent / shard, "a shard of a checkpoint")
    return {index.parent / shard: tensors for shard, tensors in names.items()}


def require_promised(index: Path, promised: tuple[str, ...], shard: Path, found: object) -> None:
    """Check that a shard holds the tensors that the index promises, and no others."""
    held = {*found} if isinstance(found, Mapping) else set()
    if odd := sorted(held ^ {*promised}):
        raise InputError(
            f"{shard} holds other tensors than {index.name} says: {some(odd)}",
            "the whole folder, copied or downloaded again",
        )


def checkpoint_sha256(file: Path) -> str:
    """The hash of a checkpoint as ``checkpoint_file`` gives it; of an index, with all its shards.

    A file by itself has the hash that ``sha256sum`` prints.
    """
    if not file.name.endswith(INDEX):
        return sha256(file)
    parts = [file, *sorted(read_index(file))]
    lines = "".join(f"{sha256(part)}  {part.name}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()
