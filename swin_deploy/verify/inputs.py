"""What ``verify`` hands to both sides: photos, noise in several batch sizes, and extremes."""

from __future__ import annotations

from swin_deploy.data.inputs import InputSet, PhotoFolder, load_photos, make_noise_for
from swin_deploy.run.finished import Run
from swin_deploy.verify.extremes import make_extremes

AT_ONCE = 32  # photos in a set, so that a row of a report says where among many the worst is


def make_inputs(
    opened: Run, sizes: tuple[int, ...], photos: PhotoFolder | None
) -> tuple[list[InputSet], list[str]]:
    """All sets of images, noise first, and why photos were left out.

    All are exact in the input of every graph of the run, so that all get the same images.

    Raises:
        InputError: Too many photos cannot be read.
    """
    config = opened.config
    inputs = [
        make_noise_for(opened.images, size, config.in_channels, config.image_size) for size in sizes
    ]
    inputs += make_extremes(opened.images, opened.preprocessing, config.image_size)
    if photos is None:
        return inputs, []
    loaded, problems = load_photos(photos, config.image_size, opened.preprocessing)
    images = opened.images.round(loaded.images)
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        name = f"photos {start + 1}-{start + len(part)}"
        inputs.append(InputSet(name, part, natural=True))
    return inputs, problems
