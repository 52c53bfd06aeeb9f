"""Run calibration images through an FP32 graph and count what its tensors hold."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model

from swin_deploy.errors import InputError
from swin_deploy.files import refuse_impostors, sha256
from swin_deploy.foreign import reading
from swin_deploy.graph.calibration_cache import Calibration, read_cache, write_cache
from swin_deploy.graph.tensor_statistics import TensorStatistics, measure_tensor
from swin_deploy.metrics import FloatArray
from swin_deploy.onnx_file import read_onnx
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

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

    Raises:
        InputError: The graph cannot be run, a tensor is not in it or not finite, or there are no
            images.
    """
    refuse_impostors(graph, "an ONNX model")
    names = list(dict.fromkeys(tensors))
    whole = _identify(graph, names, identity)
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


def _identify(graph: Path, tensors: list[str], identity: dict[str, Any]) -> dict[str, Any]:
    import onnxruntime

    return identity | {
        "graph": sha256(graph),
        "tensors": tensors,
        "onnxruntime": onnxruntime.__version__,
    }


def observe(source: Path, tensors: Sequence[str], final: Path) -> Path:
    """Write ``source`` to ``final`` with ``tensors`` as its outputs.

    Raises:
        InputError: It is no valid graph, or has one of the tensors not.
    """
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
