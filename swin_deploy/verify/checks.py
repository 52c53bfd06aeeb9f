"""Lines of a ``verify`` report: what two sides gave for the same images, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swin_deploy.data.inputs import InputSet
from swin_deploy.interface import LOGITS
from swin_deploy.run.finished import Run
from swin_deploy.verify.comparison import NO_PHOTOS, Comparison, Kind
from swin_deploy.verify.extremes import is_extreme
from swin_deploy.verify.outputs import Outputs, compare_outputs
from swin_deploy.verify.sides import Side, coarser, floor_between


def check_pair(
    opened: Run,
    reference: Side,
    candidate: Side,
    images: InputSet,
    results: tuple[Outputs, Outputs],
    powers: Mapping[str, float],
    kind: Kind = "outputs",
) -> list[Comparison]:
    """Compare what two sides gave for the same images.

    Args:
        opened: The run.
        reference: One side.
        candidate: The other.
        images: What both were given.
        results: What they gave.
        powers: ``mean_power`` of the outputs of the reference over all images, by name.
        kind: For the rows.
    """
    expected, found = results
    if LOGITS in found and LOGITS not in expected:  # the one that has all of them says what is best
        expected, found = found, expected
    sides = reference, candidate
    extreme = is_extreme(images)
    own_db = opened.extreme_floors_db if extreme else opened.floors_db
    int8 = any(side.precision == "int8" for side in sides)
    checks = []
    for row in compare_outputs(
        candidate.name,
        images.name,
        expected,
        found,
        coarser(sides),
        powers,
        interface=opened.interface,
    ):
        floor = floor_between(sides, own_db.get(row.output), extreme)
        held = replace(row, reference=reference.name, kind=kind, floor_db=floor)
        checks.append(held.not_judged(NO_PHOTOS) if int8 and not images.natural else held)
    return checks
