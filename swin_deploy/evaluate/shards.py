"""The unit of work: some photos in order, the same ones however many workers there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from swin_deploy.data.sample import ImageSample, SampledImage

BEST = 5  # classes that are kept of a photo, where there are as many
SHARD_IMAGES = 64  # at least; a shard that is lost or interrupted is some seconds of work


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive photos of a sample.

    Attributes:
        index: Of the shard.
        first: Position of its first photo in the sample.
        images: The photos.
    """

    index: int
    first: int
    images: tuple[SampledImage, ...]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What the artifacts name on the photos of a shard.

    Attributes:
        index: Of the shard.
        positions: In the sample, of the photos that could be read.
        classes: Per artifact and photo, the best classes, the best first; -1 where the outputs are
            not finite.
        left_out: Positions of the others, and why.
    """

    index: int
    positions: list[int]
    classes: list[list[list[int]]]
    left_out: list[tuple[int, str]]

    def as_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def shard_size(batch: int) -> int:
    """Photos in a shard: whole batches, so that cutting elsewhere would not change what is one."""
    return -(-SHARD_IMAGES // batch) * batch


def cut_shards(sample: ImageSample, batch: int) -> list[Shard]:
    """The shards of a sample; they depend on it and on the batch, and on nothing else."""
    size = shard_size(batch)
    return [
        Shard(index, first, sample.images[first : first + size])
        for index, first in enumerate(range(0, len(sample), size))
    ]


def misfit(result: ShardResult, shards: Sequence[Shard], artifacts: int, classes: int) -> str:
    """Why a result is of none of these shards; "" if it is.

    Args:
        result: As a file has it that anybody may have written.
        shards: All of an evaluation.
        artifacts: How many there are.
        classes: That each of them knows.
    """
    if not 0 <= result.index < len(shards):
        return f"shard {result.index} of {len(shards)}"
    shard = shards[result.index]
    own = range(shard.first, shard.first + len(shard.images))
    left_out = [position for position, _ in result.left_out]
    if sorted([*result.positions, *left_out]) != list(own) or sorted(result.positions) != list(
        result.positions
    ):
        return f"shard {result.index} has the photos {own.start} to {own.stop - 1}, not those"
    if [len(rows) for rows in result.classes] != [len(result.positions)] * artifacts:
        return f"shard {result.index} needs guesses of {artifacts} artifacts for every photo"
    for rows in result.classes:
        if len({len(row) for row in rows}) > 1 or not all(0 < len(row) <= BEST for row in rows):
            return f"shard {result.index} needs as many guesses for each photo, 1 to {BEST}"
        if not all(-1 <= guess < classes for row in rows for guess in row):
            return f"shard {result.index} guesses a class that is none of {classes}"
    return ""
