"""What ``scaling`` is asked, and what ``scaling.json`` holds, typed for writer and reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from swin_deploy.core.errors import (
    Checked,
    ConfigError,
    SwinDeployError,
    caught,
    wrong_counts,
    wrong_seed,
)
from swin_deploy.core.records import Batch, Count, Number, Positive, Rows, Text, finite
from swin_deploy.engine.here import Machine
from swin_deploy.network.catalogue import Variant, require_size
from swin_deploy.network.interface import BatchRange, Size

KIND = "scaling"
SCHEMA_VERSION = 1
Axis = Literal["area", "batch"]
# Keys that only some points and fits have.
_SOME = ("compiler", "kernels", "fused_attentions", "compiled_bytes", "area", "batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one process measured of one point.

    Attributes:
        time_ms: Median of its calls, host to host, after one that is not counted.
        cpu_ms: Median of the CPU time that a call took, all threads together. On a machine that
            others use it says more: waiting for a core is not in it.
        calls: That were timed.
        peak_bytes: The most that was resident while it ran, above what the libraries take: the
            network and its activations. Loading the file is not in it.
        working_bytes: The same above the loaded network: activations and scratch space. Both None
            where the kernel does not tell.
    """

    time_ms: Positive
    cpu_ms: Number
    calls: Count
    peak_bytes: int | None
    working_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a compiler made of a graph; ``compiled_bytes`` are those of activations."""

    compiler: Text
    kernels: Count
    fused_attentions: Count
    compiled_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """A network at one image size and batch; the first versions did not write ``cpu_ms``.

    Attributes:
        name: As progress has it.
        network: Its name.
        image_size: (height, width), in pixels.
        area: Of the image, in pixels.
        batch: Images per call.
        nodes: Of the graph; this and the costs after it are those of
            ``engine.cost.graph_facts.GraphCost``.
        compiler: Where it was compiled; this and the costs after it are those of ``Compiled``.
        time_ms: Median of the turns, with the lowest and the highest.
        cpu_ms: Likewise.
        time_variation: Standard deviation of the turns over their mean.
        peak_bytes: Median of the turns, as ``working_bytes``: see ``Turn``.
    """

    name: Text
    network: Text
    image_size: tuple[Count, Count]
    area: Count
    batch: Batch
    nodes: Count
    flops: Count
    activation_bytes: Count
    constant_bytes: Count
    compiler: Text | None = None
    kernels: Count | None = None
    fused_attentions: Count | None = None
    compiled_bytes: Count | None = None
    time_ms: Positive
    time_low_ms: Positive
    time_high_ms: Positive
    cpu_ms: Number | None = None
    time_variation: Number
    peak_bytes: int | None
    working_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """cost = constant * size ** exponent, by least squares of the logarithms.

    Attributes:
        points: That it was fitted to.
        exponent: The slope.
        low: Lower end of its 95 % interval; None where two points leave nothing to tell it from.
        high: Upper end, likewise.
        largest: Slope between the two largest sizes alone: of a sum of powers, the exponent
            grows with the size.
    """

    points: Count
    exponent: Number
    low: Number | None
    high: Number | None
    largest: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow(Fit):
    """A fit in ``axis`` of a cost of a network, at one value of the other axis."""

    network: Text
    axis: Axis
    area: Count | None = None
    batch: Count | None = None
    cost: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingReport:
    """``scaling.json``, but for the journal that it has, too.

    Attributes:
        runtime: What was timed.
        threads: On the CPU.
        rounds: Turns of every point.
        seed: Of the random weights.
        machine: Where.
        points: What was measured.
        fits: How costs grow.
        notes: What the user has to know.
    """

    runtime: Text
    threads: Count
    rounds: Count
    seed: int
    machine: Machine
    points: Rows[PointRow]
    fits: Rows[FitRow]
    notes: Rows[Text]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``scaling --json``."""
        found: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **finite(asdict(self))}
        for key in ("points", "fits"):
            found[key] = [
                {
                    name: value
                    for name, value in row.items()
                    if value is not None or name not in _SOME
                }
                for row in found[key]
            ]
        return found


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
class ScalingRequest(Checked):
    """One measurement; fields are the options of ``scaling``, here what its help does not say.

    Attributes:
        networks: Under different names.
        sizes: (height, width), of two areas or more.
        batches: Images per call.
        runtime: Its memory is read, too.
        threads: None for one per usable core.
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
