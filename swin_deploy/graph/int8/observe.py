"""Run calibration images through an FP32 graph and count what its tensors hold, on the disk."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model

from swin_deploy.core.errors import FileAccessError, InputError
from swin_deploy.core.files import atomic_path, require_plain_file, sha256
from swin_deploy.core.onnx_file import read_onnx
from swin_deploy.core.own_files import open_plain
from swin_deploy.core.records import parse_json, reading
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.int8.thresholds import MOST_BINS, TensorStatistics, measure_tensor
from swin_deploy.network.judge import FloatArray

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


SAVE_EVERY_S = 15.0  # at most so much work is lost with a process that is killed


def collect_statistics(
    graph: Path,
    tensors: Sequence[str],
    batches: Callable[[], Iterable[FloatArray]],
    cache: Path | None,
    identity: dict[str, Any],
    progress: Callable[[str, int, int], None] | None = None,
    *,
    total: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, TensorStatistics]:
    """Statistics of ``tensors`` over all images of ``batches``, in one pass and bounded memory.

    A graph of a static batch gets that many images at a time. Those left over fill it one by one,
    and each run counts as the one image that it is: the axis of the batch is not the first in the
    export form, so that slots cannot be told apart in an inner tensor.

    Args:
        graph: FP32 ONNX file with one image input. Unchanged.
        tensors: Names of float tensors in it, or of its input.
        batches: Gives the images, the same ones at every call: (b, channels, H, W) float32 each,
            for any b. Not called where the cache is complete.
        cache: Where statistics are kept, and progress is saved; None to keep none.
        identity: What the images depend on, JSON-able; the graph's hash, the tensors and the
            version of ONNX Runtime are added. The method is no part of it: statistics serve all.
        progress: Is told ("calibration", images done, ``total``) after every run.
        total: Number of images, if known.
        note: Is told why a cache does not count, and where a calibration goes on.
    """
    import onnxruntime

    require_plain_file(graph, "an ONNX model")
    names = list(dict.fromkeys(tensors))
    whole = identity | {"graph": sha256(graph), "tensors": names}
    whole["onnxruntime"] = onnxruntime.__version__
    state = Calibration(0, False, {})
    if cache is not None:
        state = read_cache(cache, whole, note)
    if state.complete:
        return state.tensors
    if state.images:
        note(f"calibration goes on after {state.images} images, from {cache}")
    saved = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder,
        OnnxRuntimeRunner(observe(graph, names, Path(folder) / graph.name)) as runner,
    ):
        size = runner.batch.high if runner.batch.static else 1
        for images, true in _runs(_rest(batches(), state.images), size):
            state = _count(state, runner, names, images, true)
            if progress is not None:
                progress("calibration", state.images, total)
            if cache is not None and time.monotonic() - saved >= SAVE_EVERY_S:
                write_cache(cache, whole, state)
                saved = time.monotonic()
    if not state.images:
        raise InputError("there are no calibration images")
    if cache is not None:
        write_cache(cache, whole, Calibration(state.images, True, state.tensors))
    return state.tensors


def observe(source: Path, tensors: Sequence[str], final: Path) -> Path:
    """Write ``source`` to ``final`` with ``tensors`` as its outputs."""
    model = read_onnx(source)
    with reading(source, "a valid ONNX model"):
        load_external_data_for_model(model, str(source.parent))
    made = {name for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.input}
    missing = [name for name in tensors if name not in made | given]
    if missing:
        raise InputError(
            f"{source} has {len(missing)} of {len(tensors)} tensors not: {', '.join(missing[:5])}"
        )
    del model.graph.output[:]
    for name in tensors:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    onnx.save(model, final)
    return final


def _rest(batches: Iterable[FloatArray], done: int) -> Iterator[FloatArray]:
    """The images after the first ``done``, (channels, H, W) each."""
    images = (image for batch in batches for image in batch)
    skipped = sum(1 for _ in islice(images, done))
    if skipped < done:
        raise InputError(
            f"the cache has counted {done} calibration images, and there are {skipped}",
            "remove the cache",
        )
    return images


def _runs(images: Iterator[FloatArray], size: int) -> Iterator[tuple[FloatArray, int]]:
    """Batches of ``size``, and how many different images each holds: ``size`` of them, or one."""
    while held := list(islice(images, size)):
        if len(held) == size:
            yield np.stack(held), size
        else:
            for image in held:
                yield np.stack([image] * size), 1


def _count(
    state: Calibration, runner: OnnxRuntimeRunner, tensors: list[str], images: FloatArray, true: int
) -> Calibration:
    """``state`` after one more run; each image of it counts ``len(images)`` times."""
    values = runner.run(images)
    updated = {}
    for name in tensors:
        try:
            # A run of copies holds its one image that often already.
            found = measure_tensor(values[name], true, weight=true)
        except ValueError as error:
            raise InputError(
                f"{name} is not finite on calibration image {state.images + 1}"
                + (f" to {state.images + true}" if true > 1 else "")
                + f": {error}",
                "other calibration images, or another checkpoint",
            ) from error
        updated[name] = state.tensors[name] + found if state.images else found
    return Calibration(state.images + true, False, updated)
