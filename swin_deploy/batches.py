"""How many images one call of a graph takes."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.errors import ConfigError


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
        if not 1 <= self.low <= self.high <= 4096:
            raise ConfigError(
                f"batch {self.low}:{self.high} is not a range from 1 up to 4096",
                "--batch 8 for a static batch, --batch 1:16 for a dynamic one",
            )

    @property
    def static(self) -> bool:
        """Whether the graph takes one batch size only."""
        return self.low == self.high

    def __str__(self) -> str:
        return str(self.high) if self.static else f"{self.low}:{self.high}"

    @property
    def checked_sizes(self) -> tuple[int, ...]:
        """The numbers of images to verify with: both ends and, between them, an odd one.

        A static graph sees its batch once, and then again as several calls of which the last is
        not full.
        """
        if self.static:
            return (self.high, self.high + 2)
        middle = {3} if self.low < 3 < self.high else set()
        return tuple(sorted({self.low, self.high} | middle))


ONE_IMAGE = BatchRange()
