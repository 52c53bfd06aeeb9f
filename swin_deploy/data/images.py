"""Photos and seeded noise -> the tensors that a network expects, and -> what a graph takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import (
    EnvironmentMissingError,
    FileAccessError,
    InputError,
    typed,
)
from swin_deploy.core.files import digest, sha256
from swin_deploy.core.own_files import open_plain
from swin_deploy.data.bands import (
    ARRAY,
    normalise,
    prepare_pixels,
    read_pixels,
    resize_and_crop,
)
from swin_deploy.network.interface import Io, Precision, Preprocessing, Size
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from PIL import Image


# How far a normalised value may be from a pixel, in pixels. FP32 leaves about 2e-5 of 255.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input of a graph.

    Attributes:
        io: As ``Interface.io_of`` has it.
        mean: Per channel, of pixels from 0 to 1; what "uint8" is normalised with.
        std: Per channel.
    """

    io: Io = "fp32"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, io: Io, preprocessing: Preprocessing) -> ImageInput:
        """That of a graph which is given what the preprocessing makes of photos."""
        return cls(io, preprocessing.mean, preprocessing.std)

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """Normalised images (b, channels, H, W) float32 -> the same ones as the graph takes them.

        Raises:
            InputError: It cannot take just these: they are no pixels, or no float16 numbers.
        """
        if self.io == "uint8":
            return self._to_pixels(images)
        if self.io == "fp16":
            half = images.astype(np.float16)
            if not np.array_equal(half.astype(np.float32), images):
                raise InputError("the images are not exact in float16, which the graph takes")
            return half
        return images

    def round(self, images: FloatArray) -> FloatArray:
        """The nearest images that a graph in float16 takes; pixels and float32 are left alone."""
        return images.astype(np.float16).astype(np.float32) if self.io == "fp16" else images

    def _to_pixels(self, images: FloatArray) -> NDArray[np.uint8]:
        mean, std = (np.asarray(v, dtype=np.float64) for v in (self.mean, self.std))
        values = (images.transpose(0, 2, 3, 1) * std + mean) * 255
        pixels = np.rint(values)
        if (
            not (np.abs(values - pixels) < _TOLERANCE).all()
            or pixels.min() < 0
            or pixels.max() > 255
        ):
            raise InputError(
                "the images are not normalised pixels, and the graph takes pixels from 0 to 255"
            )
        return np.ascontiguousarray(pixels.astype(np.uint8))


FP32_INPUT = ImageInput()


def as_float32(output: NDArray[Any]) -> NDArray[Any]:
    """An output of a graph, float32 where it is float16; integers stay."""
    return output.astype(np.float32) if output.dtype == np.float16 else output


# Decoders that take untrusted files. Not EPS, which runs an interpreter, whatever the file's name.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_MODES = {1: "L", 3: "RGB"}
_16_BIT_TO_8 = 1 / 257  # 65535 -> 255


def require_pillow() -> None:
    """Check that photos can be read here.

    Raises:
        EnvironmentMissingError: There is no Pillow, or it does not load.
    """
    try:
        import PIL.Image  # noqa: F401  # and its native part
    except ImportError as error:
        raise EnvironmentMissingError(
            f"photos are read with Pillow, which is not here: {error}",
            "sudo apt install python3-pil, or pip install pillow",
        ) from error


def load_photo(path: Path, size: Size, preprocessing: Preprocessing) -> FloatArray:
    """Decode, resize, crop and normalise one photo.

    The EXIF orientation is applied, transparency is laid over white, 16-bit samples are scaled to
    8 bits, of an animation the first frame counts. The resize keeps the aspect ratio and covers
    ``size / crop``, or squashes the photo to just that; the centre of it is cut out.

    Args:
        path: A file of one of ``FORMATS``, told by its content; or pixels in an ``.npy`` file, as
            ``as_pixels`` takes them.
        size: (height, width), in pixels.
        preprocessing: Crop, filter, mean and std; one mean per channel.

    Returns:
        (channels, height, width), float32, normalised.

    Raises:
        InputError: The file is no photo, is damaged, is too large to be one, or has other channels
            than the network takes.
        EnvironmentMissingError: There is no Pillow here.
    """
    require_pillow()
    from PIL import Image

    channels = len(preprocessing.mean)
    try:
        open_plain(path).close()  # Pillow would wait for a pipe
        if path.suffix.lower() == ARRAY:
            return prepare_array(read_pixels(path, channels), size, preprocessing)
        with Image.open(path, formats=FORMATS) as file:
            return prepare_photo(file, size, preprocessing)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:  # Pillow's plugins have no errors in common
        known = typed(error)
        if isinstance(known, InputError) and not known.problem.startswith(str(path)):
            raise InputError(f"{path}: {known.problem}", known.hint) from error
        if known is not None and not isinstance(known, FileAccessError):
            raise known from error
        raise InputError(f"{path} cannot be read as a photo: {error}") from error


def load_upright(path: Path) -> Image.Image:
    """A photo as people look at it, in RGB; InputError where it is none."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a photo: {error}") from error


def prepare_photo(photo: Image.Image, size: Size, preprocessing: Preprocessing) -> FloatArray:
    """As ``load_photo``, of a photo that is open.

    A network of 1 or 3 channels sees any photo in grey or in colour. One of other channels takes
    the bands of the photo as they are: those of a grey one with transparency (2), of colours with
    transparency (4), of CMYK (4).

    Raises:
        InputError: The photo has other bands than the network takes.
        OSError: The photo is damaged; of its many errors, one.
    """
    from PIL import ImageOps

    channels = len(preprocessing.mean)
    if channels not in _MODES:
        bands = photo.getbands()
        if len(bands) != channels:
            raise InputError(
                f"the photo has {len(bands)} channels ({photo.mode}), and the network takes "
                f"{channels}",
                f"an .npy of (H, W, {channels})",
            )
        pixels = np.asarray(ImageOps.exif_transpose(photo), dtype=np.uint8)
        return prepare_pixels(pixels, size, preprocessing)
    opaque = _opaque(ImageOps.exif_transpose(_eight_bits(photo)))
    resized = resize_and_crop(opaque.convert(_MODES[channels]), size, preprocessing)
    pixels = np.asarray(resized, dtype=np.uint8).reshape(1, *size, channels)
    images = normalise(pixels, preprocessing.mean, preprocessing.std)
    return images.reshape(channels, *size)


def prepare_array(pixels: NDArray[Any], size: Size, preprocessing: Preprocessing) -> FloatArray:
    """As ``load_photo``, of pixels as ``as_pixels`` gives them; bytes as of a photo, to the bit."""
    from PIL import Image

    if pixels.dtype == np.uint8 and pixels.shape[2] in _MODES and len(preprocessing.mean) in _MODES:
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return prepare_photo(Image.fromarray(np.ascontiguousarray(flat)), size, preprocessing)
    return prepare_pixels(pixels, size, preprocessing)


def _eight_bits(photo: Image.Image) -> Image.Image:
    from PIL import Image

    if photo.mode.startswith("I"):  # 16-bit samples; Pillow's own conversion would clip them
        return Image.fromarray((np.asarray(photo) * _16_BIT_TO_8).clip(0, 255).astype(np.uint8))
    return photo


def _transparent(photo: Image.Image) -> bool:
    """What Pillow 10.1 and newer call ``has_transparency_data``."""
    if photo.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in photo.info:
        return True
    return photo.mode == "P" and photo.palette is not None and photo.palette.mode.endswith("A")


def _opaque(photo: Image.Image) -> Image.Image:
    from PIL import Image

    if not _transparent(photo):
        return photo.convert("RGB")
    layer = photo.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


MAX_PHOTOS = 20  # enough for a worst case, and eager Swin-L still takes seconds
MAX_UNREADABLE = 0.05  # share of the chosen photos that may be unreadable
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ARRAY}


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


def require_readable(
    problems: Sequence[str], total: int, what: str = "photos", *, so_far: bool = False
) -> None:
    """Check that no more than a share of ``MAX_UNREADABLE`` had to be left out.

    Args:
        problems: Why, of each.
        total: Of those and the others.
        what: What messages call them.
        so_far: Whether more may come.
    """
    if len(problems) > MAX_UNREADABLE * total:
        bad = f"{len(problems)}{' or more' if so_far else ''} of {total} {what}"
        raise InputError(f"{bad} cannot be read: {problems[0]}", "remove them")


def load_photos(
    folder: PhotoFolder, size: Size, preprocessing: Preprocessing
) -> tuple[InputSet, list[str]]:
    """The chosen photos as one set, and why others of them were left out."""
    images, problems = [], []
    for path in folder.chosen:
        try:
            images.append(load_photo(path, size, preprocessing))
        except InputError as error:
            problems.append(error.problem)
    require_readable(problems, len(folder.chosen))
    return InputSet(f"photos x{len(images)}", np.stack(images), natural=True), problems
