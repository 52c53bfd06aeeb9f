"""Where two forms of a network part: tensor by tensor, down to the first that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from swin_deploy.errors import InputError
from swin_deploy.judge import difference
from swin_deploy.metrics import FloatArray
from swin_deploy.model.build import Network
from swin_deploy.run.finished import Run
from swin_deploy.verify.depth import Bisection, TensorRow
from swin_deploy.verify.eager_points import Held, masked, trace_eager
from swin_deploy.verify.points import GraphMap, Point, find_points
from swin_deploy.verify.sides import Side, coarser, own_graph, runnable
from swin_deploy.verify.trace import trace_graph


def bisect(
    opened: Run,
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
        inside = _points_inside(graph, points, sides, above, found.block)
        rows = _compare(inside, tracers, sides, filled, floor_db)
        found.inside = [replace(row, stage=found.block.stage) for row in rows.values()]
    return found


Tracer = Callable[[Sequence[Point], FloatArray], dict[str, Held]]


def _tracer(
    opened: Run, model: Network, side: Side, points: Sequence[Point], scratch: Path
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
    sides: tuple[Side, Side],
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
    point: Point, held: Sequence[Held], sides: tuple[Side, Side], name: str, floor_db: float | None
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
