"""Reference inputs, and what eager PyTorch gives for them: what engines on a device are held to."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from swin_deploy.data.calibration import find_calibration, read_batches
from swin_deploy.data.images import prepare_photo
from swin_deploy.data.inputs import make_noise_for
from swin_deploy.errors import ConfigError, UnsafeError
from swin_deploy.metrics import FloatArray
from swin_deploy.pipeline.context import CHECKED
from swin_deploy.pipeline.int8 import Sample
from swin_deploy.precisions import Precision
from swin_deploy.records import decode, parse_json
from swin_deploy.run.finished import Run
from swin_deploy.run.names import SAMPLE
from swin_deploy.runtime.shipped import EXTREME, Reference
from swin_deploy.verify.extremes import make_extremes

MOST = 16  # images of a reference; a larger batch has them several times
NOISE, CALIBRATION = "noise", "calibration"
PHOTO, TENSOR = "reference/photo.png", "reference/photo.npy"


def reference_of(precision: Precision) -> str:
    """Which reference a precision is compared on: INT8 on photos, as in its gate."""
    return CALIBRATION if precision == "int8" else NOISE


def make_references(
    run: Run, precisions: tuple[Precision, ...], calibration: Path | None
) -> tuple[dict[str, Reference], dict[str, bytes]]:
    """Images, and the outputs of the eager network in FP32.

    Args:
        run: What is shipped.
        precisions: Of the graphs that are shipped.
        calibration: Where the images lie that INT8 was calibrated on.

    Returns:
        The references by name, and the files that they name.

    Raises:
        ConfigError: INT8 is shipped and ``calibration`` was not given.
        UnsafeError: The images there are not those.
    """
    wanted = dict.fromkeys(map(reference_of, precisions))
    extremes = make_extremes(run.images, run.preprocessing, run.config.image_size)
    images = {EXTREME: np.concatenate([some.images for some in extremes])}
    if CALIBRATION in wanted:
        images[CALIBRATION] = _calibration_images(run, calibration)
    if NOISE in wanted:
        config, count = run.config, min(MOST, max(run.batch.checked_sizes()))
        noise = make_noise_for(run.images, count, config.in_channels, config.image_size)
        images[NOISE] = noise.images
    references, files = {}, {}
    for name, outputs in _run_eager(run, images).items():
        reference = Reference(
            inputs=f"reference/{name}.npy",
            outputs={output: f"reference/{name}.{output}.npy" for output in outputs},
        )
        files[reference.inputs] = array_bytes(images[name])
        files |= {reference.outputs[output]: array_bytes(a) for output, a in outputs.items()}
        references[name] = reference
    return references, files


def _run_eager(run: Run, images: dict[str, FloatArray]) -> dict[str, dict[str, FloatArray]]:
    from swin_deploy.interrupts import import_torch

    import_torch()
    from swin_deploy.model.load import load_model
    from swin_deploy.model.outputs import with_outputs
    from swin_deploy.runners.base import run_all
    from swin_deploy.runners.torch_eager import TorchRunner

    model = load_model(run.config, run.weights, run.seed)
    with TorchRunner(with_outputs(model, run.outputs, run.config.name)) as runner:
        return {name: run_all(runner, array) for name, array in images.items()}


def _calibration_images(run: Run, place: Path | None) -> FloatArray:
    if place is None:
        raise ConfigError(
            "INT8 engines are verified on images of the calibration",
            "--calibration with those of the export, or --precision without int8",
        )
    record = run.file(SAMPLE)
    kept = decode(Sample, parse_json(record.read(), record.path), record.path, "export again")
    sample = find_calibration(place, len(kept.images), kept.seed)
    if sample.images != kept.images:
        raise UnsafeError(
            f"{place} does not hold the images that {record.path} lists", "those of the export"
        )
    size, steps = run.config.image_size, run.preprocessing
    images = next(read_batches(sample.spread(CHECKED), size, steps, CHECKED))
    return run.images.round(images)


def make_photo(run: Run) -> dict[str, bytes]:
    """A photo and the tensor that it becomes, by the names that they have in the bundle.

    The photo has edges, gradients and grain, is not square, and larger than the network's images
    or smaller, so that resize, crop and rounding all show.
    """
    down, across = np.mgrid[0:227, 0:301]
    waves = np.stack(
        [across * 3 + down, across * down // 7, (across // 9 + down // 5) % 2 * 200], -1
    )
    grain = np.random.PCG64(0).random_raw(waves.size).reshape(waves.shape) % 32
    pixels = ((waves + grain) % 256).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    with Image.open(stream) as photo:
        tensor = prepare_photo(photo, run.config.image_size, run.preprocessing)
    return {PHOTO: stream.getvalue(), TENSOR: array_bytes(tensor)}


def array_bytes(array: FloatArray) -> bytes:
    """The content of an .npy file of float32."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    return stream.getvalue()
