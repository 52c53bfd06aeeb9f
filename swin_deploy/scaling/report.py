"""What ``scaling.json`` holds: ``scaling`` writes these classes, and whoever reads it gets them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from swin_deploy.machine import Machine
from swin_deploy.records import Batch, Count, Number, Positive, Rows, Text, finite

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
        nodes: Of the graph, as the next: see ``engine.traffic.GraphCost``.
        compiler: Where it was compiled, as the next: see ``Compiled``.
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
