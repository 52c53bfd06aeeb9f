"""What a bundle takes of a run: graphs, references that engines are held to, a signature."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, UnsafeError
from swin_deploy.core.records import decode, parse_json
from swin_deploy.data.images import prepare_photo
from swin_deploy.data.samples import find_calibration, read_some
from swin_deploy.engine.target import Target
from swin_deploy.measure.verify.outputs import make_extremes
from swin_deploy.network.interface import Precision
from swin_deploy.network.judge import FLOORS, FLOORS_DB, FloatArray
from swin_deploy.pipeline.context import CHECKED
from swin_deploy.pipeline.conversions import Sample
from swin_deploy.run.details import SAMPLE, graph_of
from swin_deploy.run.finished import Run
from swin_deploy.runtime.trust import EXTREME, Reference

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def floors_of(run: Run, target: Target, precision: Precision) -> dict[str, float]:
    """Output -> the lowest SQNR against eager PyTorch that an engine may have, in dB.

    Of what the graphs give, and of what the network itself gives, before their ends.
    """
    floors = dict.fromkeys((*run.output_names, *run.export.outputs), FLOORS_DB[precision])
    if precision == "fp32":
        held = run.floors_db
        return {name: held.get(name, floor) for name, floor in floors.items()}
    if precision == "int8":
        return dict.fromkeys(floors, run.int8_of(target).floor_db)
    return floors


def extreme_floor_of(run: Run, target: Target, precision: Precision) -> float | None:
    """The same on images that no camera takes, of every output; None for finite numbers."""
    if precision == "int8":
        return None
    floor = FLOORS["extreme"][precision]
    held = run.extreme_floors_db if precision == "fp32" else {}
    return min(held.get(name, floor) for name in floors_of(run, target, precision))


def form_note(run: Run, target: Target) -> str | None:
    """What to know of graphs that a GPU's compiler makes slower engines of; None of others."""
    form = run.export.form  # None of a ViT
    if target.kind != "tensorrt" or form in (None, target.form(run.batch.static)):
        return None
    return (
        "this run's graph is in the form for CPUs, which NVIDIA's compiler fuses less: "
        f"swin-deploy export --target {target.name} makes the other"
    )


def never_run_note(run: Run, target: Target) -> str | None:
    """What to know where the bundle is made of a run that has run no engine of the target."""
    own = [engine for engine in run.engines.values() if engine.target.name == target.name]
    if any(f"engine {engine.name}" not in run.header.never_run for engine in own):
        return None
    return (
        f"NEVER RUN: no engine of target {target.name} has been run where this bundle was made; "
        "build on the device is the first time, and what it says counts"
    )


def choose_graphs(
    run: Run, target: Target, precisions: tuple[Precision, ...] | None
) -> dict[Precision, str]:
    """The graphs of a run that a target is built from: precision -> name of the file.

    Args:
        run: The run.
        target: What engines will be built for.
        precisions: None for all that it has and the target gains from.
    """
    opset = run.export.opset
    if opset > target.opset:
        raise EnvironmentMissingError(
            f"the graphs of {run.path} are of opset {opset}, "
            f"target {target.name} takes up to {target.opset}",
            f"swin-deploy export with --target {target.name}",
        )
    present = run.files
    have = {p: graph_of(target, p) for p in target.precisions if graph_of(target, p) in present}
    missing = [p for p in precisions or () if p not in have]
    if missing or not have:
        wanted = ",".join(missing or target.precisions)
        raise ConfigError(
            f"{run.path} has no graph in {wanted} for target {target.name}",
            f"swin-deploy export with --precision {wanted} --target {target.name}"
            if not have or set(missing) <= set(target.precisions)
            else f"--precision {','.join(have)}",
        )
    return {p: name for p, name in have.items() if precisions is None or p in precisions}


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
    """
    wanted = dict.fromkeys(map(reference_of, precisions))
    extremes = make_extremes(run.images, run.preprocessing, run.config.image_size)
    images = {EXTREME: np.concatenate([some.images for some in extremes])}
    if CALIBRATION in wanted:
        images[CALIBRATION] = _calibration_images(run, calibration)
    if NOISE in wanted:
        images[NOISE] = run.noise(min(MOST, max(run.batch.checked_sizes()))).images
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
    from swin_deploy.network.model import import_torch

    import_torch()
    from swin_deploy.engine.runners.base import run_all
    from swin_deploy.engine.runners.torch_eager import TorchRunner
    from swin_deploy.network.model.build import load_model, with_outputs

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
    return run.images.round(read_some(sample, run.variant, CHECKED))


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


def sign(key: Ed25519PrivateKey, content: bytes) -> bytes:
    """The signature of ``content``: 64 bytes, as base64 on one line."""
    return base64.b64encode(key.sign(content)) + b"\n"
