"""Where the images that INT8 is calibrated on come from: a seeded sample of real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.architecture import Size
from swin_deploy.artifacts.files import digest, sha256
from swin_deploy.artifacts.manifest import package_version
from swin_deploy.data.arrays import ImageArray, find_images
from swin_deploy.data.images import load_photo
from swin_deploy.data.inputs import MAX_UNREADABLE, list_photos
from swin_deploy.data.photo_list import read_list
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.metrics import FloatArray
from swin_deploy.variants import Preprocessing

FEW_IMAGES = 100  # below this the ranges depend on which images they were
# Farthest that 8 bits go once normalised with ImageNet's mean and std is 2.64; this tells those
# from pixels of 0 to 255 whatever the mean and std.
MAX_NORMALISED = 30.0
_HINT = "--calibration with a folder of photos, a text file that lists them, or an .npy or .npz"


@dataclass(frozen=True, slots=True)
class CalibrationImage:
    """One image: its name, relative to the source, and the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """A sample of the images of one source.

    Attributes:
        source: Folder, list or array file.
        found: How many images it has.
        seed: Of the sample.
        images: The sample, sorted by name or by position in the array.
        sha256: Digest over ``images``.
        notes: What is worth saying of it.
        array: Where the images lie, if in an array.
        positions: Of the images in ``array``.
    """

    source: Path
    found: int
    seed: int
    images: tuple[CalibrationImage, ...]
    sha256: str
    notes: tuple[str, ...]
    array: ImageArray | None = None
    positions: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, count: int) -> CalibrationSet:
        """At most ``count`` of the images, evenly over the sample."""
        step = max(1.0, len(self) / count)
        chosen = [int(index * step) for index in range(min(len(self), count))]
        images = tuple(self.images[index] for index in chosen)
        positions = tuple(self.positions[index] for index in chosen) if self.positions else ()
        return replace(self, images=images, positions=positions, sha256=_digest(images))

    def identity(self, size: Size, preprocessing: Preprocessing) -> dict[str, Any]:
        """All that the tensors of ``read_batches`` depend on, JSON-able."""
        return {
            "images": self.sha256,
            "count": len(self),
            "seed": self.seed,
            "size": list(size),
            "preprocessing": asdict(preprocessing),
            "pillow": package_version("pillow"),
        }


def find_calibration(source: Path, count: int | None = None, seed: int = 0) -> CalibrationSet:
    """Draw a sample of the images in ``source``, the same for the same seed.

    Args:
        source: A folder of photos, class sub-folders included; a text file with one path a line,
            relative to the file, ``#`` for comments; or an ``.npy`` or ``.npz`` of float32 images
            that are normalised already.
        count: At most so many images; None for all.
        seed: A smaller sample of the same seed is part of a larger one.

    Raises:
        ConfigError: ``count`` or ``seed`` means nothing.
        InputError: The source is missing, empty or damaged, or holds something else.
        UnsafeError: An array holds pickled objects.
    """
    if count is not None and count < 1:
        raise ConfigError(f"calibration on {count} images", "512 of them, or at least 1")
    if seed < 0:
        raise ConfigError(f"seed {seed} is below 0")
    if not source.exists():
        raise InputError(f"{source} does not exist", _HINT)
    if source.suffix.lower() in (".npy", ".npz") and not source.is_dir():
        return _sample_array(source, count, seed)
    folder = source if source.is_dir() else source.parent
    if source.is_dir():
        names = sorted(path.relative_to(source).as_posix() for path in list_photos(source))
    else:
        names = sorted(read_list(source))
    chosen = [names[index] for index in _sample(len(names), count, seed)]
    images = tuple(CalibrationImage(name, sha256(folder / name)) for name in chosen)
    return CalibrationSet(
        source, len(names), seed, images, _digest(images), _notes(images, len(names), count)
    )


def read_batches(
    calibration: CalibrationSet,
    size: Size,
    preprocessing: Preprocessing,
    batch: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[FloatArray]:
    """The images in order, (b, channels, H, W) float32, ``batch`` at a time, the last maybe fewer.

    Photos are decoded when their batch is asked for, by ``load_photo`` as everywhere.

    Args:
        calibration: Which images.
        size: (H, W), in pixels.
        preprocessing: Of photos; arrays are normalised already, and count their channels by it.
        batch: Images to hold at a time.
        note: Is told of every photo that was left out, and why.

    Raises:
        InputError: An array holds images of another shape, or more than ``MAX_UNREADABLE`` of
            the photos cannot be read.
    """
    if calibration.array is None:
        images = _read_photos(calibration, size, preprocessing, note)
    else:
        _require_shape(calibration.array, (len(preprocessing.mean), *size))
        images = calibration.array.read(calibration.positions)
    return _in_batches(images, batch)


def _in_batches(images: Iterator[FloatArray], batch: int) -> Iterator[FloatArray]:
    held: list[FloatArray] = []
    for image in images:
        held.append(image)
        if len(held) == batch:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def _read_photos(
    calibration: CalibrationSet,
    size: Size,
    preprocessing: Preprocessing,
    note: Callable[[str], None],
) -> Iterator[FloatArray]:
    source = calibration.source
    folder, unreadable = source if source.is_dir() else source.parent, 0
    for item in calibration.images:
        try:
            image = load_photo(folder / item.name, size, preprocessing)
        except InputError as error:
            unreadable += 1
            if unreadable > MAX_UNREADABLE * len(calibration):
                raise InputError(
                    f"{unreadable} or more of {len(calibration)} calibration photos cannot be "
                    f"read: {error.problem}",
                    "remove them",
                ) from error
            note(f"left out of the calibration: {error.problem}")
            continue
        yield image


def _require_shape(array: ImageArray, expected: tuple[int, int, int]) -> None:
    if array.shape == expected:
        return
    channels, height, width = expected
    hint = f"an array of (n, {channels}, {height}, {width})"
    if array.shape == (height, width, channels):
        hint = "its channels come last: images.transpose(0, 3, 1, 2)"
    raise InputError(
        f"{array.key} holds images of {array.shape}, and the network takes {expected} as "
        "(channels, height, width)",
        hint,
    )


def _sample_array(path: Path, count: int | None, seed: int) -> CalibrationSet:
    array = find_images(path)
    positions = _sample(array.count, count, seed)
    images, largest = [], 0.0
    for index, image in zip(positions, array.read(positions), strict=True):
        content = hashlib.sha256(image.tobytes()).hexdigest()
        images.append(CalibrationImage(str(index), content))
        largest = max(largest, float(np.abs(image).max()))
    notes = _notes(tuple(images), array.count, count)
    if largest > MAX_NORMALISED:
        notes += (f"{path} holds values up to {largest:g}: are its images normalised?",)
    return CalibrationSet(
        path, array.count, seed, tuple(images), _digest(tuple(images)), notes, array, positions
    )


def _sample(total: int, count: int | None, seed: int) -> tuple[int, ...]:
    """Ascending positions of at most ``count`` of ``total`` items."""
    # Raw numbers: numpy keeps them from version to version, unlike those of Generator's methods.
    order = np.argsort(np.random.PCG64(seed).random_raw(total), kind="stable")
    return tuple(sorted(order[:count].tolist()))


def _digest(images: tuple[CalibrationImage, ...]) -> str:
    return digest([[image.name, image.sha256] for image in images])


def _notes(images: tuple[CalibrationImage, ...], found: int, count: int | None) -> tuple[str, ...]:
    notes = []
    if count is not None and found < count:
        notes.append(f"{count} calibration images were asked for, and {found} are there: all used")
    if len(images) < FEW_IMAGES:
        notes.append(
            f"calibration on {len(images)} images: with fewer than {FEW_IMAGES} the ranges depend "
            "on which they are"
        )
    copies = len(images) - len({image.sha256 for image in images})
    if copies:
        notes.append(f"{copies} of {len(images)} calibration images are copies of others")
    return tuple(notes)
