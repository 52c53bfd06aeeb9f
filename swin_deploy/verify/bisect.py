"""Where two forms of a network part: tensor by tensor, down to the first that is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.errors import InputError
from swin_deploy.metrics import FloatArray, cosine_similarity, max_abs_error, sqnr_db
from swin_deploy.model.build import Network
from swin_deploy.verify.eager_points import Held, masked, trace_eager
from swin_deploy.verify.opened import OpenedRun
from swin_deploy.verify.points import GraphMap, Point, find_points
from swin_deploy.verify.sides import Side, runnable
from swin_deploy.verify.trace import trace_graph

EQUAL_DB = 150.0  # what equal tensors count as where drops are compared: more than FP32 can tell


@dataclass(frozen=True, slots=True)
class TensorRow:
    """A tensor of both, on the image where they are furthest apart.

    Attributes:
        tensor: The block, or the node inside one.
        stage: Of the network.
        node: That computes it in the ONNX file.
        sqnr_db: Signal to noise against the reference.
        cosine: Of the two.
        max_abs_error: In its own unit.
        reason: Why it is wrong; empty if it is not.
        inputs: The image.
    """

    tensor: str
    stage: str
    node: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    reason: str
    inputs: str


@dataclass(slots=True)
class Bisection:
    """Two sides along the depth.

    Attributes:
        reference: Name of a side.
        candidate: Likewise.
        floor_db: Of every tensor; None where they are not judged.
        rows: Between the blocks, in the order of the depth.
        inside: Inside the first block that is wrong, in the same order.
        unmatched: Points that only one of the two has.
        notes: What the figures are of.
    """

    reference: str
    candidate: str
    floor_db: float | None
    rows: list[TensorRow]
    inside: list[TensorRow] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def block(self) -> TensorRow | None:
        """The first block that is wrong."""
        return next((row for row in self.rows if row.reason), None)

    @property
    def first(self) -> TensorRow | None:
        """The first tensor that is wrong: inside that block, if it can be seen there."""
        return next((row for row in self.inside if row.reason), self.block)

    @property
    def largest_drop(self) -> tuple[TensorRow, float] | None:
        """The row that is furthest below the one in front of it, and by how many dB."""
        drops = [
            (row, min(before.sqnr_db, EQUAL_DB) - row.sqnr_db)
            for before, row in zip(self.rows, self.rows[1:], strict=False)
        ]
        return max(drops, key=lambda drop: drop[1], default=None)

    def as_dict(self) -> dict[str, Any]:
        """JSON; decibels that are infinite become null."""
        drop, first, block = self.largest_drop, self.first, self.block
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "floor_db": self.floor_db,
            "block": None if block is None else block.tensor,
            "first": None if first is None else plain_row(first),
            "largest_drop": None
            if drop is None
            else {"tensor": drop[0].tensor, "drop_db": finite(drop[1])},
            "rows": [plain_row(row) for row in self.rows],
            "inside": [plain_row(row) for row in self.inside],
            "unmatched": self.unmatched,
            "notes": self.notes,
        }


def finite(value: float) -> float | None:
    """A number that JSON has; None for others."""
    return value if math.isfinite(value) else None


def plain_row(row: TensorRow) -> dict[str, Any]:
    """JSON of a row."""
    return {k: finite(v) if isinstance(v, float) else v for k, v in asdict(row).items()}


def bisect(
    opened: OpenedRun,
    model: Network,
    sides: tuple[Side, Side],
    images: Sequence[tuple[str, FloatArray]],
    scratch: Path,
    floor_db: float | None,
) -> Bisection:
    """Compare two sides after every block, and then inside the first block that is wrong.

    Args:
        opened: The run.
        model: Its eager network.
        sides: Reference and candidate.
        images: Names and images, (1, channels, H, W) float32 each; at least one.
        scratch: A folder for graphs.
        floor_db: What every tensor has to reach; None to judge none.

    Raises:
        InputError: The graph has none of the names by which tensors are found.
    """
    graph = GraphMap(next(side.graph for side in sides if side.graph is not None))
    points = find_points(graph, opened.config)
    found = Bisection(sides[0].name, sides[1].name, floor_db, [])
    found.notes += [
        f"{side.name} has no tensors to look at: its graph was looked into, {side.graph.name}"
        for side in sides
        if side.engine is not None and side.graph is not None
    ]
    tracers = [_tracer(opened, model, side, points, scratch) for side in sides]
    marks = [point for point in points if not point.inner]
    # A graph of a static batch gets an image in every slot, and then so does eager.
    filled = [(name, np.repeat(image, opened.batch.low, axis=0)) for name, image in images]
    compared = _compare(marks, tracers, filled, floor_db)
    found.rows = list(compared.values())
    if not found.rows:
        raise InputError(
            f"{graph.path} has no nodes that are named as exports here name them",
            "a graph of a run of this tool",
        )
    found.unmatched = [point.label for point in marks if point.label not in compared]
    if found.block is not None:
        names = list(compared)
        index = names.index(found.block.tensor)
        above = next((p.node for p in marks if index and p.label == names[index - 1]), None)
        inside = _points_inside(graph, points, sides, above, found.block)
        rows = _compare(inside, tracers, filled, floor_db)
        found.inside = [replace(row, stage=found.block.stage) for row in rows.values()]
    return found


Tracer = Callable[[Sequence[Point], FloatArray], dict[str, Held]]


def _tracer(
    opened: OpenedRun, model: Network, side: Side, points: Sequence[Point], scratch: Path
) -> Tracer:
    if side.graph is None:
        return lambda wanted, image: trace_eager(model, opened.outputs, wanted, image)
    graph = runnable(side, scratch)

    def trace(wanted: Sequence[Point], image: FloatArray) -> dict[str, Held]:
        values = trace_graph(graph, [point.node for point in wanted], image, side.image_input)
        return {p.label: (values[p.node], True) for p in wanted if p.node in values}

    return trace


def _points_inside(
    graph: GraphMap,
    points: Sequence[Point],
    sides: tuple[Side, Side],
    above: str | None,
    block: TensorRow,
) -> list[Point]:
    """Every node of the block where both are graphs, else what the eager network has too."""
    nodes = graph.between(above, block.node)
    if all(side.graph is not None for side in sides):
        return [Point(node, "out", block.stage, node) for node in nodes]
    return [point for point in points if point.node in nodes]


def _compare(
    points: Sequence[Point],
    tracers: Sequence[Tracer],
    images: Sequence[tuple[str, FloatArray]],
    floor_db: float | None,
) -> dict[str, TensorRow]:
    """Label -> the worst of the images, for points that both sides have."""
    worst: dict[str, TensorRow] = {}
    for name, image in images:
        held = [trace(points, image) for trace in tracers]  # one image at a time: maps are large
        for point in points:
            if any(point.label not in side for side in held):
                continue
            row = _row(point, held[0][point.label], held[1][point.label], name, floor_db)
            if point.label not in worst or row.sqnr_db < worst[point.label].sqnr_db:
                worst[point.label] = row
    return worst


def _row(point: Point, a: Held, b: Held, name: str, floor_db: float | None) -> TensorRow:
    """One tensor; all of it counts as one image, since the batch is not its first axis."""
    numbers, reason = (-math.inf, math.nan, math.nan), ""
    if a[0].shape != b[0].shape:
        reason = f"shape {b[0].shape}, expected {a[0].shape}"
    else:
        present = np.logical_and(a[1], b[1])
        reference, candidate = (masked(x, present)[None] for x in (a[0], b[0]))
        if not np.isfinite(reference).all():
            reason = "the reference itself is NaN or infinite there"
        elif not np.isfinite(candidate).all():
            reason = f"{np.count_nonzero(~np.isfinite(candidate))} values are NaN or infinite"
        else:
            numbers = (
                sqnr_db(reference, candidate),
                cosine_similarity(reference, candidate),
                max_abs_error(reference, candidate),
            )
            if floor_db is not None and not numbers[0] >= floor_db:
                reason = f"SQNR {numbers[0]:.1f} dB, needs {floor_db:.0f} dB"
    return TensorRow(point.label, point.stage, point.node, *numbers, reason, name)
