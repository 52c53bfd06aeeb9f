"""What networks are compared on: seeded noise, and a folder of photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swin_deploy.data.images import load_photo
from swin_deploy.data.pixels import ImageInput, normalise
from swin_deploy.errors import InputError
from swin_deploy.files import digest, sha256
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.preprocessing import Preprocessing, Size

MAX_PHOTOS = 20  # enough for a worst case, and eager Swin-L still takes seconds
MAX_UNREADABLE = 0.05  # share of the chosen photos that may be unreadable
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}


@dataclass(frozen=True, slots=True)
class InputSet:
    """Images to compare networks on.

    Attributes:
        name: What tables call it.
        images: (b, channels, H, W) float32, normalised.
        natural: Whether they are photos or the like: what ranges of INT8 are measured on, so that
            INT8 is compared on such alone.
        only: The precisions that are compared on it; empty for all.
    """

    name: str
    images: FloatArray
    natural: bool = False
    only: tuple[Precision, ...] = ()


@dataclass(frozen=True, slots=True)
class PhotoFolder:
    """The photos of a folder that a run uses.

    Attributes:
        chosen: Files, spread evenly over the sorted list.
        found: How many there are.
        sha256: Digest over names and contents of the chosen ones.
    """

    chosen: tuple[Path, ...]
    found: int
    sha256: str


def make_noise(count: int, channels: int, size: Size) -> InputSet:
    """``count`` images of standard normal noise, the same for the same arguments."""
    generator = np.random.default_rng((count, channels, *size))
    images = generator.standard_normal((count, channels, *size), dtype=np.float32)
    return InputSet(f"noise x{count}", images)


def make_noise_for(image_input: ImageInput, count: int, channels: int, size: Size) -> InputSet:
    """``count`` seeded images that ``image_input`` takes: normal noise, or uniform pixels.

    Returns:
        (b, channels, H, W) float32, normalised.
    """
    noise = make_noise(count, channels, size)
    if image_input.io == "uint8":
        generator = np.random.default_rng((count, channels, *size))
        pixels = generator.integers(0, 256, (count, *size, channels), dtype=np.uint8)
        return InputSet(noise.name, normalise(pixels, image_input.mean, image_input.std))
    return InputSet(noise.name, image_input.round(noise.images))


def list_photos(folder: Path) -> list[Path]:
    """All photos in ``folder`` and below it, sorted; links to folders are not followed.

    A photo is told by its name here, and by its content where it is read.

    Raises:
        InputError: It is no folder, or holds no photos.
        OSError: A folder below it cannot be read.
    """
    return sorted(_walk(folder))


def require_photos(folder: Path) -> None:
    """Check that ``list_photos`` finds one; looks no further than to the first."""
    next(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    """Photos as they are come upon, at least one."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of photos")
    photos = others = 0
    for root, _, names in os.walk(folder, onerror=_raise):
        for path in (Path(root) / name for name in names):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                photos += 1
                yield path
            else:
                others += 1
    if not photos:
        raise InputError(
            f"{folder} holds no photos" + (f", only {others} other files" if others else ""),
            f"files named {', '.join(sorted(SUFFIXES))}",
        )


def _raise(error: OSError) -> None:
    raise error


def find_photos(folder: Path, most: int | None = MAX_PHOTOS) -> PhotoFolder:
    """The photos to verify on, of those in ``folder`` and below it; errors of ``list_photos``.

    Args:
        folder: Of photos.
        most: How many to choose, spread evenly over the sorted list; None for all.
    """
    files = list_photos(folder)
    count = len(files) if most is None else min(len(files), most)
    step = max(1.0, len(files) / count)
    chosen = tuple(files[int(index * step)] for index in range(count))
    names = {str(path.relative_to(folder)): sha256(path) for path in chosen}
    return PhotoFolder(chosen, len(files), digest(names))


def load_photos(
    folder: PhotoFolder, size: Size, preprocessing: Preprocessing
) -> tuple[InputSet, list[str]]:
    """The chosen photos as one set, and why others of them were left out.

    Raises:
        InputError: More than ``MAX_UNREADABLE`` of them cannot be read.
    """
    images, problems = [], []
    for path in folder.chosen:
        try:
            images.append(load_photo(path, size, preprocessing))
        except InputError as error:
            problems.append(error.problem)
    if len(problems) > MAX_UNREADABLE * len(folder.chosen):
        raise InputError(
            f"{len(problems)} of {len(folder.chosen)} photos cannot be read: {problems[0]}",
            "remove them from the folder",
        )
    return InputSet(f"photos x{len(images)}", np.stack(images), natural=True), problems
