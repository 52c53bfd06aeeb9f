"""The proof on the device: what an engine gives for the reference images, against eager PyTorch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from swin_deploy.engine.open import looks_at, open_engine
from swin_deploy.engine.targets import find_target
from swin_deploy.errors import EnvironmentMissingError, InputError, VerificationError
from swin_deploy.files import Recorded
from swin_deploy.judge import powers_of
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner, run_all
from swin_deploy.runtime.shipped import EXTREME, Reference, Shipped
from swin_deploy.verify import Comparison, compare_outputs
from swin_deploy.verify.comparison import NO_PHOTOS


def check_photo(shipped: Shipped) -> str | None:
    """Prove that photos become here what they became where the bundle was made, to the bit.

    Returns:
        Why that was not done; None if it was, or if the network takes no photos.

    Raises:
        VerificationError: The reference photo becomes another tensor.
    """
    if shipped.photo is None:
        return None
    from swin_deploy.data.images import load_photo, require_pillow

    try:
        require_pillow()
    except EnvironmentMissingError:  # such a device reads none, and engines are given arrays
        return "Pillow is not here, so photos were not compared"
    photo = shipped.folder / shipped.photo.file
    expected = read_array(shipped.file(shipped.photo.tensor))
    found = load_photo(photo, shipped.image_size, shipped.preprocessing)
    if found.shape != expected.shape or not np.array_equal(found, expected):
        worst = (
            f"by up to {np.abs(found - expected).max():.3g}"
            if found.shape == expected.shape
            else f"in shape: {found.shape}, not {expected.shape}"
        )
        raise VerificationError(
            f"{photo} is read differently by the Pillow of this machine, {worst}; nothing was "
            "published",
            "another version of Pillow",
        )
    return None


def compare_engine(
    shipped: Shipped, precision: Precision, path: Path, sizes: Sequence[int]
) -> list[Comparison]:
    """Compare an engine with eager PyTorch, at several batch sizes and with one image in each slot.

    Args:
        shipped: The bundle.
        precision: Of the engine; selects reference and floors.
        path: The engine: built here just now.
        sizes: Numbers of images, of ``BatchRange.checked_sizes``.

    Raises:
        EnvironmentMissingError: It cannot run here.
    """
    graph, target = shipped.graphs[precision], find_target(shipped.target)
    images, expected = _read(shipped, shipped.references[graph.reference])
    taken = shipped.image_input(precision)
    rows: list[Comparison] = []
    strange, eager = _read(shipped, shipped.references[EXTREME])
    # By the floors that the bundle records, which ship with their evidence.
    for before in looks_at(target, shipped.interface):
        with open_engine(target, precision, path, image_input=taken, before=before) as runner:
            for count in sizes:
                slots = np.arange(count) % len(images)
                for name, chosen in (
                    (f"{graph.reference} x{count}", slots),
                    (f"{graph.reference}, one x{count}", np.zeros_like(slots)),
                ):
                    part = images[chosen]
                    found = _compare(runner, name, part, expected, chosen, shipped, precision)
                    rows += [row.held_to(graph.floors_db) for row in found]
            every = np.arange(len(strange))
            found = _compare(runner, EXTREME, strange, eager, every, shipped, precision)
        if graph.extreme_floor_db is None:
            rows += [row.not_judged(NO_PHOTOS) for row in found]
        else:
            rows += [replace(row, floor_db=graph.extreme_floor_db) for row in found]
    return rows


def _read(shipped: Shipped, reference: Reference) -> tuple[FloatArray, dict[str, FloatArray]]:
    images = read_array(shipped.file(reference.inputs))
    return images, {n: read_array(shipped.file(f)) for n, f in reference.outputs.items()}


def _compare(
    runner: Runner,
    name: str,
    images: FloatArray,
    expected: dict[str, FloatArray],
    slots: np.ndarray,
    shipped: Shipped,
    precision: Precision,
) -> list[Comparison]:
    return compare_outputs(
        runner.name,
        name,
        {output: array[slots] for output, array in expected.items()},
        run_all(runner, images),
        precision,
        powers_of([expected], shipped.interface),
        interface=shipped.interface,
    )


def read_array(file: Recorded) -> FloatArray:
    """An array of the bundle.

    Raises:
        InputError: It is none of float32.
        UnsafeError: It is not the file that was recorded.
    """
    path, content = file.path, file.read()
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is no array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not len(array):
        raise InputError(f"{path} is no array of float32")
    return array
