"""How many images one call of a graph takes."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass

from swin_deploy.counts import MOST_IMAGES
from swin_deploy.errors import ConfigError

FEW = 8  # sizes of a range that are all checked
DRAWN = 3  # sizes between the ends of a larger one that are checked at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The batch sizes that a gate has run; ``seed`` drew them, where there were more."""

    sizes: tuple[int, ...]
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRange:
    """The batch sizes that a graph accepts.

    Attributes:
        low: Smallest batch.
        high: Largest batch, and the one that engines are tuned for. Equal to ``low`` for a static
            batch axis, which gives the fastest engines.
    """

    low: int = 1
    high: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high <= MOST_IMAGES:
            raise ConfigError(
                f"batch {self.low}:{self.high} is not a range from 1 up to {MOST_IMAGES}",
                "--batch 8 for a static batch, --batch 1:16 for a dynamic one",
            )

    @property
    def static(self) -> bool:
        """Whether the graph takes one batch size only."""
        return self.low == self.high

    def __str__(self) -> str:
        return str(self.high) if self.static else f"{self.low}:{self.high}"

    @property
    def drawn(self) -> bool:
        """Whether it has more sizes than are checked at once, so that some are drawn."""
        return self.high - self.low >= FEW

    def checked_sizes(self, seed: int = 0) -> tuple[int, ...]:
        """The numbers of images to verify with, ascending.

        Every size of a small range: a graph may be wrong at any one of them. Of a large range both
        ends and ``DRAWN`` between them. A static graph sees its batch once, and then again as
        several calls of which the last is not full.

        Args:
            seed: Of the draw; without meaning where nothing is drawn.
        """
        if self.static:
            return (self.high, self.high + 2)
        every = range(self.low, self.high + 1)
        if not self.drawn:
            return tuple(every)
        chance = random.Random(seed)  # noqa: S311 - a draw that can be repeated, no secret
        between = chance.sample(every[1:-1], DRAWN)
        return (self.low, *sorted(between), self.high)


def new_seed() -> int:
    """A seed for ``checked_sizes`` that differs from one run to the next."""
    return secrets.randbelow(2**31)


ONE_IMAGE = BatchRange()
