"""Where two forms of a network part: tensor by tensor, and along the depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.core.records import finite
from swin_deploy.measure.verify.candidates import Candidate, coarser, own_graph, runnable
from swin_deploy.measure.verify.comparison import Comparison, Kind
from swin_deploy.measure.verify.eager_points import Held, masked, trace_eager
from swin_deploy.measure.verify.points import GraphMap, Point, find_points, trace_graph
from swin_deploy.measure.verify.report import BisectionReport, DepthRow, Drop
from swin_deploy.network.judge import FloatArray, difference
from swin_deploy.network.model.build import Network
from swin_deploy.run.finished import Run

EQUAL_DB = 150.0  # what equal tensors count as where drops are compared: more than FP32 can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow(Comparison):
    """A tensor of both, on the image where they are furthest apart; its name is the "output".

    Attributes:
        stage: Of the network.
        node: That computes it in the ONNX file.
    """

    kind: Kind = "tensors"
    stage: str
    node: str

    def depth_row(self) -> DepthRow:
        """What a report has of it: nothing that the whole bisection has in common."""
        return DepthRow(
            tensor=self.output,
            stage=self.stage,
            node=self.node,
            sqnr_db=finite(self.sqnr_db),
            cosine=finite(self.cosine),
            max_abs_error=finite(self.max_abs_error),
            reason=self.reason,
            inputs=self.inputs,
        )


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
        return next((row for row in self.rows if not row), None)

    @property
    def first(self) -> TensorRow | None:
        """The first tensor that is wrong: inside that block, if it can be seen there."""
        return next((row for row in self.inside if not row), self.block)

    @property
    def stages(self) -> dict[str, TensorRow]:
        """Stage -> what leaves it: the last of its rows."""
        return {row.stage: row for row in self.rows}

    @property
    def largest_drop(self) -> tuple[TensorRow, float] | None:
        """The row that is furthest below the one in front of it, and by how many dB."""
        drops = [
            (row, min(before.sqnr_db, EQUAL_DB) - row.sqnr_db)
            for before, row in zip(self.rows, self.rows[1:], strict=False)
        ]
        return max(drops, key=lambda drop: drop[1], default=None)

    def report(self) -> BisectionReport:
        """What ``checks.json`` has of it."""
        drop, first, block = self.largest_drop, self.first, self.block
        return BisectionReport(
            reference=self.reference,
            candidate=self.candidate,
            floor_db=self.floor_db,
            block=None if block is None else block.output,
            first=None if first is None else first.depth_row(),
            largest_drop=None
            if drop is None
            else Drop(tensor=drop[0].output, drop_db=finite(drop[1])),
            stages={stage: row.depth_row() for stage, row in self.stages.items()},
            rows=tuple(row.depth_row() for row in self.rows),
            inside=tuple(row.depth_row() for row in self.inside),
            unmatched=tuple(self.unmatched),
            notes=tuple(self.notes),
        )


def bisect(
    opened: Run,
    model: Network,
    sides: tuple[Candidate, Candidate],
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
    """
    graph = GraphMap(own_graph(next(side for side in sides if side.graph is not None), scratch))
    points = find_points(graph, opened.config)
    if not points:
        raise InputError(
            f"{graph.path} has no nodes that are named as exports here name them",
            "a graph of a run of this tool",
        )
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
    compared = _compare(marks, tracers, sides, filled, floor_db)
    found.rows = list(compared.values())
    found.unmatched = [point.label for point in marks if point.label not in compared]
    if found.block is not None:
        names = list(compared)
        index = names.index(found.block.output)
        above = next((p.node for p in marks if index and p.label == names[index - 1]), None)
        nodes = graph.between(above, found.block.node)
        inside = [point for point in points if point.node in nodes]  # what eager has, too
        if all(side.graph is not None for side in sides):
            inside = [Point(node, "out", found.block.stage, node) for node in nodes]
        rows = _compare(inside, tracers, sides, filled, floor_db)
        found.inside = [replace(row, stage=found.block.stage) for row in rows.values()]
    return found


Tracer = Callable[[Sequence[Point], FloatArray], dict[str, Held]]


def _tracer(
    opened: Run, model: Network, side: Candidate, points: Sequence[Point], scratch: Path
) -> Tracer:
    if side.graph is None:
        return lambda wanted, image: trace_eager(model, opened.outputs, wanted, image)
    graph = runnable(side, scratch)

    def trace(wanted: Sequence[Point], image: FloatArray) -> dict[str, Held]:
        values = trace_graph(graph, [point.node for point in wanted], image, side.image_input)
        return {p.label: (values[p.node], True) for p in wanted if p.node in values}

    return trace


def _compare(
    points: Sequence[Point],
    tracers: Sequence[Tracer],
    sides: tuple[Candidate, Candidate],
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
            row = compare_tensor(point, [side[point.label] for side in held], sides, name, floor_db)
            if point.label not in worst or row.sqnr_db < worst[point.label].sqnr_db:
                worst[point.label] = row
    return worst


def compare_tensor(
    point: Point,
    held: Sequence[Held],
    sides: tuple[Candidate, Candidate],
    name: str,
    floor_db: float | None,
) -> TensorRow:
    """One tensor; all of it counts as one image, since the batch is not its first axis."""
    (a, a_present), (b, b_present) = held
    if a.shape == b.shape:
        present = np.logical_and(a_present, b_present)
        a, b = masked(a, present), masked(b, present)
    return TensorRow(
        candidate=sides[1].name,
        reference=sides[0].name,
        inputs=name,
        output=point.label,
        precision=coarser(sides),
        floor_db=floor_db,
        stage=point.stage,
        node=point.node,
        **asdict(difference(a[None], b[None])),
    )
