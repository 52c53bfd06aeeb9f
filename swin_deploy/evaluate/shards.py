"""The unit of work: some photos in order, the same ones however many workers there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from swin_deploy.data.sample import ImageSample, SampledImage

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

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave; KeyError or TypeError if it is something else."""
        left_out = [(int(position), str(why)) for position, why in found["left_out"]]
        return cls(int(found["index"]), found["positions"], found["classes"], left_out)


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
