"""One line of a ``verify`` report: what was compared, how far apart it is, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from swin_deploy.data.inputs import InputSet
from swin_deploy.interface import CLASSES, LOGITS, SCORES
from swin_deploy.metrics import FloatArray, mean_power
from swin_deploy.run.finished import Run
from swin_deploy.verify.comparison import Comparison
from swin_deploy.verify.inputs import is_extreme
from swin_deploy.verify.outputs import compare_outputs, without_floor
from swin_deploy.verify.sides import Side, coarser, floor_between

Outputs = Mapping[str, FloatArray]  # of one set of images, by name
Kind = Literal["outputs", "slots", "saved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Two arrays that should be the same; true if they are, or if nothing was asked of them.

    Attributes:
        kind: "outputs" of two sides, "slots" of one batch, or "saved" on another machine.
        reference: What it was compared with.
        candidate: What was compared.
        inputs: On which images.
        output: Which output.
        sqnr_db: With the noise of the worst image.
        cosine: Of the worst image.
        max_abs_error: In the unit of the outputs.
        top1_agreement: 0 to 1; None where the outputs name no class.
        floor_db: What ``sqnr_db`` had to reach; None where it was not judged.
        passed: The verdict.
        reason: For it.
    """

    kind: Kind
    reference: str
    candidate: str
    inputs: str
    output: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    top1_agreement: float | None
    floor_db: float | None
    passed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.passed

    @property
    def judged(self) -> bool:
        """Whether anything beyond finite numbers of the right shape was asked of it."""
        return self.floor_db is not None or not self.passed

    def as_dict(self) -> dict[str, Any]:
        """JSON; numbers that are not finite become null."""
        row = asdict(self) | {"judged": self.judged}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }


def check_pair(
    opened: Run,
    reference: Side,
    candidate: Side,
    images: InputSet,
    results: tuple[Outputs, Outputs],
    powers: Mapping[str, float],
    kind: Kind = "outputs",
) -> list[Check]:
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
        powers = {}
    precision = coarser((reference, candidate))
    agreement = None
    if CLASSES in expected and CLASSES in found:  # both name the best alone
        agreement = float((expected[CLASSES][:, 0] == found[CLASSES][:, 0]).mean())
        expected, found = ({SCORES: side[SCORES]} for side in (expected, found))
    rows = compare_outputs(
        candidate.name,
        images.name,
        expected,
        found,
        precision,
        powers,
        interface=opened.interface,
    )
    loose = _why_not_judged(opened, (reference, candidate), images)
    checks = []
    for row in rows:
        if agreement is not None:
            row = replace(row, top1_agreement=agreement)
        own_db = opened.floors_db.get(row.output)
        floor = floor_between((reference, candidate), own_db, is_extreme(images))
        judged = without_floor(row) if loose else with_floor(row, floor, precision == "fp32")
        checks.append(as_check(judged, reference.name, kind, loose))
    return checks


def with_floor(comparison: Comparison, floor_db: float, exact: bool) -> Comparison:
    """A comparison held to another floor; what failed for another reason than its SQNR still does.

    Args:
        comparison: To judge again.
        floor_db: The other floor.
        exact: Whether both are FP32, which have to name the same classes as well.
    """
    row = without_floor(comparison)
    if row.reason:
        return replace(row, floor_db=floor_db)
    reason = ""
    if not row.sqnr_db >= floor_db:
        reason = f"SQNR {row.sqnr_db:.1f} dB, needs {floor_db:.0f} dB"
    elif exact and row.top1_agreement is not None and row.top1_agreement < 1:
        reason = f"top-1 agreement {row.top1_agreement:.1%}, needs 100 %"
    return replace(row, floor_db=floor_db, reason=reason)


def as_check(row: Comparison, reference: str, kind: Kind, loose: str = "") -> Check:
    """A comparison as a line of the report.

    Args:
        row: The comparison.
        reference: What it was made with.
        kind: For the report.
        loose: Why its SQNR was not judged; empty if it was.
    """
    floor = row.floor_db if math.isfinite(row.floor_db) else None
    reason = row.reason or loose or f"at least {row.floor_db:.0f} dB"
    return Check(
        kind=kind,
        reference=reference,
        candidate=row.candidate,
        inputs=row.inputs,
        output=row.output,
        sqnr_db=row.sqnr_db,
        cosine=row.cosine,
        max_abs_error=row.max_abs_error,
        top1_agreement=row.top1_agreement,
        floor_db=floor,
        passed=not row.reason,
        reason=reason,
    )


def _why_not_judged(opened: Run, sides: tuple[Side, Side], images: InputSet) -> str:
    if all(side.precision != "int8" for side in sides):
        return ""
    if not images.natural:
        return "not judged: the ranges of INT8 are those of photos"
    if opened.int8_by_accuracy:
        return "not judged: accuracy on labelled photos decided at the export"
    return ""


def powers_of(results: list[Outputs]) -> dict[str, float]:
    """``mean_power`` of every output over all sets of images together."""
    total = {name: sum(len(outputs[name]) for outputs in results) for name in results[0]}
    return {
        name: sum(mean_power(outputs[name]) * len(outputs[name]) for outputs in results) / count
        for name, count in total.items()
        if name != CLASSES
    }
