"""What a measurement of scaling is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from swin_deploy.batches import BatchRange
from swin_deploy.counts import wrong_counts, wrong_seed
from swin_deploy.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.networks import require_size
from swin_deploy.preprocessing import Size
from swin_deploy.variants import Variant

Runtime = Literal["onnxruntime", "eager"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "eager")
NETWORKS = ("swin_t", "vit_s_16")
# Multiples of 224 alone: there, windows of 7 tile the grid of every stage, and nothing is padded.
# The oblong ones are for the interval, which four points would leave wide.
SIZES: tuple[Size, ...] = (
    *((224, 224), (224, 448), (448, 448), (448, 672)),
    *((672, 672), (672, 896), (896, 896)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is measured at once: a network for an image size, and how many images per call."""

    variant: Variant
    batch: int

    @property
    def size(self) -> Size:
        """(height, width) of the image, in pixels."""
        return self.variant.config.image_size

    @property
    def area(self) -> int:
        """Of the image, in pixels."""
        return self.size[0] * self.size[1]

    @property
    def name(self) -> str:
        """As progress and the journal have it."""
        return f"{self.variant.name} {self.size[0]}x{self.size[1]} batch {self.batch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRequest:
    """One measurement; fields are the options of ``scaling``, here what its help does not say.

    Attributes:
        networks: Under different names.
        sizes: (height, width), of two areas or more.
        batches: Images per call.
        runtime: Its memory is read, too.
        threads: None for one per usable core.

    Raises:
        ConfigError: A setting means nothing, or a network does not take one of the sizes.
    """

    networks: tuple[Variant, ...]
    sizes: tuple[Size, ...] = SIZES
    batches: tuple[int, ...] = (1,)
    runtime: Runtime = "onnxruntime"
    rounds: int = 5
    threads: int | None = None
    seed: int = 0
    compiled: bool = False
    out: Path = Path("artifacts/scaling")

    def __post_init__(self) -> None:
        raise_all(self.problems())

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        names = [variant.name for variant in self.networks]
        if not names or len(set(names)) < len(names):
            yield ConfigError(f"networks {names} are not one or more of different names")
        areas = [height * width for height, width in self.sizes]
        if len(set(areas)) < max(2, len(areas)):
            yield ConfigError(
                f"image sizes {_show(self.sizes)} are not two or more of different areas, so there "
                "is no slope",
                f"--sizes {_show(SIZES)}",
            )
        if not self.batches or len(set(self.batches)) < len(self.batches):
            yield ConfigError(f"batches {list(self.batches)} are not one or more different sizes")
        for batch in self.batches:
            yield from caught(partial(BatchRange, low=batch, high=batch))
        if self.runtime not in RUNTIMES:
            yield ConfigError(f"no runtime {self.runtime!r}", f"one of {', '.join(RUNTIMES)}")
        if self.rounds < 2:
            yield ConfigError(f"rounds = {self.rounds} gives no spread", "at least 2")
        yield from wrong_counts(threads=self.threads)
        yield from wrong_seed(self.seed)
        for point in self.points:
            if not point.variant.config.num_classes:
                yield ConfigError(f"{point.variant.name} has no head, so it gives no logits")
            yield from caught(require_size, point.variant.config)

    @property
    def points(self) -> list[Point]:
        """By network, batch and area, in that order."""
        sizes = sorted(self.sizes, key=lambda size: size[0] * size[1])
        return [
            Point(variant=variant.with_image_size(size), batch=batch)
            for variant in self.networks
            for batch in sorted(self.batches)
            for size in sizes
        ]


def _show(sizes: Iterable[Size]) -> str:
    return ",".join(str(h) if h == w else f"{h}x{w}" for h, w in sizes)
