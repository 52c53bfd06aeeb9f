"""Statistics on the disk, so that they are counted once, and a killed calibration goes on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.errors import FileAccessError, InputError
from swin_deploy.files import atomic_path
from swin_deploy.foreign import reading
from swin_deploy.graph.magnitudes import MOST_BINS
from swin_deploy.graph.tensor_statistics import TensorStatistics
from swin_deploy.plain_files import open_plain
from swin_deploy.records import parse_json

SCHEMA_VERSION = 1  # goes up with every change of what is counted, or how


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a calibration has come.

    Attributes:
        images: Counted so far.
        complete: Whether that is all of them.
        tensors: Name -> statistics; empty before the first image.
    """

    images: int
    complete: bool
    tensors: dict[str, TensorStatistics]


def write_cache(path: Path, identity: dict[str, Any], calibration: Calibration) -> None:
    """Write ``calibration`` to ``path``, atomically: an ``.npz`` of integers, and JSON in one.

    Args:
        path: Replaced if it exists.
        identity: All that the statistics depend on, JSON-able.
        calibration: So far.
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "identity": identity,
        "images": calibration.images,
        "complete": calibration.complete,
        "tensors": {
            name: {"minimum": found.minimum, "maximum": found.maximum, "bins": len(found.counts)}
            for name, found in calibration.tensors.items()
        },
    }
    counts = [found.counts for found in calibration.tensors.values()]
    with atomic_path(path) as scratch, scratch.open("wb") as stream:
        np.savez_compressed(
            stream,
            head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
            counts=np.concatenate([np.zeros(0, dtype=np.int64), *counts]),
        )


def read_cache(path: Path, identity: dict[str, Any], note: Callable[[str], None]) -> Calibration:
    """What ``path`` holds for ``identity``; no images where it holds nothing that counts.

    Args:
        path: As ``write_cache`` writes it, or anything else.
        identity: What the statistics have to depend on.
        note: Is told why a file does not count.
    """
    nothing = Calibration(0, False, {})
    if not path.exists():
        return nothing
    identity = json.loads(json.dumps(identity))  # tuples as the lists that come back
    try:
        with reading(path, "statistics of this version"):
            head, counts = _read(path, len(identity["tensors"]))
            if head["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"version {head['schema_version']}, not {SCHEMA_VERSION}")
            found = dict(head["identity"])
            changed = sorted(k for k in found | identity if found.get(k) != identity.get(k))
            if changed:
                note(f"{path} is of another {', '.join(changed)}: calibrating again")
                return nothing
            return _restore(head, counts)
    except (InputError, FileAccessError) as error:
        note(f"{path} cannot be used ({error.problem}): calibrating again")
        return nothing


def load_statistics(path: Path, tensors: int) -> dict[str, TensorStatistics]:
    """What a complete calibration has counted, by tensor.

    Args:
        path: As ``write_cache`` writes it.
        tensors: How many there are; a file that is larger than theirs can be is not unpacked.

    Raises:
        InputError: The file holds no such thing; says why.
        FileAccessError: It cannot be read.
    """
    with reading(path, "statistics of this version"):
        found = _restore(*_read(path, tensors))
    if not found.complete:
        raise InputError(f"{path} is of {found.images} images alone")
    return found.tensors


def digest_statistics(tensors: Mapping[str, TensorStatistics]) -> str:
    """SHA-256 over all that thresholds are found from, names included."""
    known = hashlib.sha256()
    for name, found in tensors.items():
        known.update(f"{name}\0{found.images}\0{found.minimum!r}\0{found.maximum!r}\0".encode())
        known.update(np.ascontiguousarray(found.counts, dtype=np.int64).tobytes())
    return known.hexdigest()


def _read(path: Path, tensors: int) -> tuple[dict[str, Any], Any]:
    """Both arrays, with the checksums of the archive compared.

    Raises:
        ValueError: It is larger than a cache can be, or holds something else.
    """
    limit = 2**20 * (1 + tensors) + 8 * MOST_BINS * tensors
    with open_plain(path) as stream:
        with zipfile.ZipFile(stream) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > limit:
            raise ValueError(f"{size} bytes unpacked, at most {limit} were expected")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as archive:
            head = parse_json(archive["head"].tobytes(), path, finite=False)
            counts = archive["counts"]
    if not isinstance(head, dict) or counts.dtype != np.int64 or counts.ndim != 1:
        raise ValueError("it holds something else")
    return head, counts


def _restore(head: dict[str, Any], counts: Any) -> Calibration:
    images, complete, tensors = head["images"], head["complete"], {}
    if not isinstance(images, int) or images < 0 or not isinstance(complete, bool):
        raise ValueError(f"{images} images")
    start = 0
    for name, item in head["tensors"].items():
        part = counts[start : start + item["bins"]]
        start += item["bins"]
        found = TensorStatistics(images, float(item["minimum"]), float(item["maximum"]), part)
        if len(part) != item["bins"] or not 1 <= len(part) <= MOST_BINS or part.min() < 0:
            raise ValueError(f"{name} has no whole histogram")
        if part[-1] == 0 or not np.isfinite([found.minimum, found.maximum]).all():
            raise ValueError(f"{name} has a histogram and a range that disagree")
        tensors[name] = found
    if start != len(counts) or (images > 0 and list(tensors) != head["identity"]["tensors"]):
        raise ValueError("its tensors are not those of its identity")
    return Calibration(images, complete, tensors)
