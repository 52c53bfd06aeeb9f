"""A seeded sample of images, of a folder, a list or an array; those that INT8 is calibrated on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import digest, package_version, sha256
from swin_deploy.data.images import list_photos, load_photo, require_photos, require_readable
from swin_deploy.data.sources import ImageArray, find_images, read_list
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.judge import FloatArray

T = TypeVar("T")

# Farthest that 8 bits go once normalised with ImageNet's mean and std is 2.64; this tells those
# from pixels of 0 to 255 whatever the mean and std.
MAX_NORMALISED = 30.0
ARRAYS = (".npy", ".npz")
_HINT = "a folder of photos, a text file that lists them, or an .npy or .npz"


@dataclass(frozen=True, slots=True)
class SampledImage:
    """One image: its name, relative to the source, and the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageSample:
    """A sample of the images of one source.

    Attributes:
        purpose: What messages say the images are for.
        source: Folder, list or array file.
        found: How many images it has.
        seed: Of the sample.
        images: The sample, sorted by name or by position in the array.
        sha256: Digest over ``images``.
        notes: What is worth saying of it.
        array: Where the images lie, if in an array.
        positions: Of the images in ``array``.
    """

    purpose: str
    source: Path
    found: int
    seed: int
    images: tuple[SampledImage, ...]
    sha256: str
    notes: tuple[str, ...]
    array: ImageArray | None = None
    positions: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def require_fit(self, size: Size, preprocessing: Preprocessing) -> None:
        """InputError where the images are arrays, and of another shape than ``read_images`` has."""
        if self.array is not None:
            _require_shape(self.array, (len(preprocessing.mean), *size))

    def spread(self, count: int) -> ImageSample:
        """At most ``count`` of the images, evenly over the sample."""
        step = max(1.0, len(self) / count)
        chosen = [int(index * step) for index in range(min(len(self), count))]
        images = tuple(self.images[index] for index in chosen)
        positions = tuple(self.positions[index] for index in chosen) if self.positions else ()
        return replace(self, images=images, positions=positions, sha256=_digest(images))

    def identity(self, size: Size, preprocessing: Preprocessing) -> dict[str, Any]:
        """All that the tensors of ``read_images`` depend on, JSON-able."""
        return {
            "images": self.sha256,
            "count": len(self),
            "seed": self.seed,
            "size": list(size),
            "preprocessing": asdict(preprocessing),
            "pillow": package_version("pillow"),
        }


def find_sample(
    source: Path,
    purpose: str,
    count: int | None = None,
    seed: int = 0,
    few: int = 0,
    shape: tuple[int, int, int] | None = None,
) -> ImageSample:
    """Draw a sample of the images in ``source``, the same for the same seed.

    Args:
        source: A folder of photos, sub-folders included; a text file with one path a line,
            relative to the file, ``#`` for comments; or an ``.npy`` or ``.npz`` of float32 images
            that are normalised already.
        purpose: What messages say the images are for: "calibration".
        count: At most so many images; None for all.
        seed: A smaller sample of the same seed is part of a larger one.
        few: A sample smaller than this has a note that says so.
        shape: (channels, height, width) that images in an array must have; None for any.
    """
    require_count(purpose, count, seed)
    found = _look_at(source, purpose, shape)
    if isinstance(found, ImageArray):
        return _sample_array(found, purpose, count, seed, few)
    if found is None:
        found = [path.relative_to(source).as_posix() for path in list_photos(source)]
    return sample_files(source, found, purpose, count, seed, few)


def require_images(source: Path, purpose: str, shape: tuple[int, int, int] | None = None) -> None:
    """Check that there are images in ``source``, without reading one.

    Args:
        source: As of ``find_sample``.
        purpose: Likewise.
        shape: Likewise.

    Raises:
        InputError: As ``find_sample``, or an array has another shape.
        UnsafeError: An array holds pickled objects.
    """
    if _look_at(source, purpose, shape) is None:
        require_photos(source)


def _look_at(
    source: Path, purpose: str, shape: tuple[int, int, int] | None
) -> ImageArray | list[str] | None:
    """The header of an array, or the names in a list; None of a folder."""
    if not source.exists():
        raise InputError(f"{source} does not exist", f"for the {purpose}: {_HINT}")
    if source.is_dir():
        return None
    if source.suffix.lower() not in ARRAYS:
        return read_list(source)
    array = find_images(source)
    if shape is not None:
        _require_shape(array, shape)
    return array


def sample_files(
    source: Path, names: Sequence[str], purpose: str, count: int | None, seed: int, few: int = 0
) -> ImageSample:
    """As ``find_sample``, of files that are known by name, relative to the source."""
    ordered = sorted(names)
    chosen = [ordered[index] for index in _sample(len(ordered), count, seed)]
    folder = folder_of(source)
    images = tuple(SampledImage(name, sha256(folder / name)) for name in chosen)
    notes = _notes(purpose, images, len(ordered), count, few)
    return ImageSample(purpose, source, len(ordered), seed, images, _digest(images), notes)


def require_count(purpose: str, count: int | None, seed: int) -> None:
    """Check the size and the seed of a sample.

    Raises:
        ConfigError: They mean nothing.
    """
    if count is not None and count < 1:
        raise ConfigError(f"{purpose} on {count} images", "512 of them, or at least 1")
    if seed < 0:
        raise ConfigError(f"seed {seed} is below 0")


def folder_of(source: Path) -> Path:
    """What the names of a source are relative to."""
    return source if source.is_dir() else source.parent


def read_images(
    sample: ImageSample,
    size: Size,
    preprocessing: Preprocessing,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, FloatArray]]:
    """The images in order, each with its position in the sample: (channels, H, W) float32.

    Photos are decoded when they are asked for, by ``load_photo`` as everywhere.

    Args:
        sample: Which images.
        size: (H, W), in pixels.
        preprocessing: Of photos; arrays are normalised already, and count their channels by it.
        note: Is told of every photo that was left out, and why.
    """
    sample.require_fit(size, preprocessing)
    if sample.array is None:
        return _read_photos(sample, size, preprocessing, note)
    return enumerate(sample.array.read(sample.positions))


def _read_photos(
    sample: ImageSample, size: Size, preprocessing: Preprocessing, note: Callable[[str], None]
) -> Iterator[tuple[int, FloatArray]]:
    folder, problems = folder_of(sample.source), list[str]()
    for position, item in enumerate(sample.images):
        try:
            image = load_photo(folder / item.name, size, preprocessing)
        except InputError as error:
            problems.append(error.problem)
            require_readable(problems, len(sample), f"{sample.purpose} photos", so_far=True)
            note(f"left out of the {sample.purpose}: {error.problem}")
            continue
        yield position, image


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


def _sample_array(
    array: ImageArray, purpose: str, count: int | None, seed: int, few: int
) -> ImageSample:
    positions = _sample(array.count, count, seed)
    images, largest = [], 0.0
    for index, image in zip(positions, array.read(positions), strict=True):
        content = hashlib.sha256(image.tobytes()).hexdigest()
        images.append(SampledImage(str(index), content))
        largest = max(largest, float(np.abs(image).max()))
    notes = _notes(purpose, tuple(images), array.count, count, few)
    if largest > MAX_NORMALISED:
        notes += (f"{array.path} holds values up to {largest:g}: are its images normalised?",)
    return ImageSample(
        purpose=purpose,
        source=array.path,
        found=array.count,
        seed=seed,
        images=tuple(images),
        sha256=_digest(tuple(images)),
        notes=notes,
        array=array,
        positions=positions,
    )


def _sample(total: int, count: int | None, seed: int) -> tuple[int, ...]:
    """Ascending positions of at most ``count`` of ``total`` items."""
    # Raw numbers: numpy keeps them from version to version, unlike those of Generator's methods.
    order = np.argsort(np.random.PCG64(seed).random_raw(total), kind="stable")
    return tuple(sorted(order[:count].tolist()))


def _digest(images: tuple[SampledImage, ...]) -> str:
    return digest([[image.name, image.sha256] for image in images])


def _notes(
    purpose: str, images: tuple[SampledImage, ...], found: int, count: int | None, few: int
) -> tuple[str, ...]:
    notes = []
    if count is not None and found < count:
        notes.append(f"{found} {purpose} images are there, fewer than {count}: all are used")
    if len(images) < few:
        notes.append(
            f"{purpose} on {len(images)} images: with fewer than {few} the ranges depend "
            "on which they are"
        )
    copies = len(images) - len({image.sha256 for image in images})
    if copies:
        notes.append(f"{copies} of {len(images)} {purpose} images are copies of others")
    return tuple(notes)


FEW_IMAGES = 100  # below this the ranges depend on which images they were
CalibrationSet = ImageSample


def find_calibration(
    source: Path,
    count: int | None = None,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
) -> CalibrationSet:
    """The images to calibrate on; arguments and errors of ``find_sample``."""
    return find_sample(source, "calibration", count, seed, FEW_IMAGES, shape)


def read_batches(
    sample: ImageSample,
    size: Size,
    preprocessing: Preprocessing,
    batch: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[FloatArray]:
    """The images in order, (b, channels, H, W) float32, ``batch`` at a time, the last maybe fewer.

    Arguments and errors of ``read_images``.
    """
    for held in in_batches(read_images(sample, size, preprocessing, note), batch):
        yield np.stack([image for _, image in held])


def read_some(sample: ImageSample, variant: Variant, count: int) -> FloatArray:
    """At most ``count`` of the images, evenly over all: (b, channels, H, W) float32."""
    return next(read_batches(sample.spread(count), *variant.view, count))


def in_batches(items: Iterable[T], batch: int) -> Iterator[list[T]]:
    """``batch`` of them at a time, the last maybe fewer."""
    rest = iter(items)
    while held := list(islice(rest, batch)):
        yield held
