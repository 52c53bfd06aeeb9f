"""One comparison with its verdict, and all comparisons of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from swin_deploy.core.errors import VerificationError
from swin_deploy.core.records import Number, Reasons, Rows, Share, Text, finite
from swin_deploy.network.interface import HALF_PRECISIONS, Batches, Precision
from swin_deploy.network.judge import Numbers, judge

# 3: a row has its reference, kind and precision, and a reason in any case; 2: a row per output
SCHEMA_VERSION = 3
EAGER_FP32 = "eager fp32"
# Why the SQNR of INT8 is not judged on other images.
NO_PHOTOS = "the ranges of INT8 are those of photos"
# Sets of images that no camera takes; ``outputs.make_extremes`` makes them.
EXTREMES = ("black", "white", "grey", "saturated", "checkerboard", "pixel noise", "spikes")
Kind = Literal["outputs", "slots", "saved", "tensors"]
_NOT_WRITTEN = ("problem", "loose")  # of a comparison: the reason has them


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A ``Comparison`` with its verdict, as every report has it.

    Numbers are None where JSON has none, as for equal outputs. Earlier versions wrote rows without
    what has a default here.

    Attributes:
        passed: The verdict.
        judged: Whether anything beyond finite numbers of the right shape was asked.
        reason: For the verdict.
    """

    sqnr_db: Number | None
    cosine: Number | None
    max_abs_error: Number | None
    candidate: Text
    reference: Text = EAGER_FP32
    inputs: Text
    output: Text
    kind: Kind = "outputs"
    precision: Precision | None = None
    floor_db: Number | None
    top1_agreement: Share | None
    where: Text = ""
    passed: bool
    judged: bool = True
    reason: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """``verify.json``.

    Attributes:
        reference: What all were compared with.
        passed: Whether something was compared, and all of it agreed.
        comparisons: A row for each.
        not_run: Candidate -> why it could not run on this machine.
        batches: That the gate ran; None where that was not written.
    """

    reference: Text = EAGER_FP32
    passed: bool
    comparisons: Rows[ComparisonRow]
    not_run: Reasons = field(default_factory=dict)
    batches: Batches | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        found = finite(asdict(self))
        if self.batches is None:
            del found["batches"]
        return {"schema_version": SCHEMA_VERSION, **found}


def names_extreme(inputs: str) -> bool:
    """Whether a set of images is of ``EXTREMES``, by its name."""
    return inputs.rpartition(" x")[0] in EXTREMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Numbers):
    """One output of a candidate against the reference on one set of inputs; true if it passed.

    The verdict is worked out when it is asked for: to judge by another floor is to ``replace`` it.

    Attributes:
        candidate: What was compared.
        reference: With what.
        inputs: On which images.
        output: Which of its outputs.
        kind: "outputs" of two sides, "slots" of one batch, outputs "saved" on another machine, or
            "tensors" inside.
        precision: The coarser of the two; FP32 has to name the same classes as well.
        floor_db: What ``sqnr_db`` has to reach; None where that is not judged.
        top1_agreement: 0 to 1; None where the outputs name no class.
        where: The part of the output that is worst, where it is known.
        loose: Why ``sqnr_db`` is not judged; empty where it is.
    """

    candidate: str
    reference: str = EAGER_FP32
    inputs: str
    output: str
    kind: Kind = "outputs"
    precision: Precision
    floor_db: float | None
    top1_agreement: float | None = None
    where: str = ""
    loose: str = ""

    @property
    def reason(self) -> str:
        """Why it failed; empty if it passed."""
        same_class = self.top1_agreement if self.precision == "fp32" else None
        return judge(self, self.floor_db, same_class, self.where)

    def __bool__(self) -> bool:
        return not self.reason

    @property
    def judged(self) -> bool:
        """Whether anything beyond finite numbers of the right shape was asked of it."""
        return self.floor_db is not None or not self

    @property
    def below_floor(self) -> bool:
        """Whether it failed because of its SQNR, and not because nothing could be compared."""
        floor = self.floor_db
        return floor is not None and math.isfinite(self.sqnr_db) and self.sqnr_db < floor

    def held_to(self, floors_db: Mapping[str, float]) -> Comparison:
        """The same with the floor of its output; with its own where there is none."""
        return replace(self, floor_db=floors_db.get(self.output, self.floor_db))

    def not_judged(self, why: str) -> Comparison:
        """The same, which now only has to be finite and of the right shape."""
        return replace(self, floor_db=None, loose=f"not judged: {why}")

    def row(self) -> ComparisonRow:
        """What a report has of it."""
        said = {key: value for key, value in asdict(self).items() if key not in _NOT_WRITTEN}
        return ComparisonRow(
            **finite(said),
            passed=bool(self),
            judged=self.judged,
            reason=self.reason or self.loose or f"at least {self.floor_db:.0f} dB",
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """All comparisons of a run.

    Attributes:
        comparisons: At least one, or ``require`` fails.
        not_run: Candidate -> why it could not run on this machine.
    """

    comparisons: tuple[Comparison, ...]
    not_run: dict[str, str]

    @property
    def failures(self) -> list[Comparison]:
        """Those below their floor, worst first."""
        return sorted((c for c in self.comparisons if not c), key=lambda c: c.sqnr_db)

    @property
    def fp32_floors_db(self) -> dict[str, float]:
        """Output -> the lowest floor that an FP32 comparison of it was held to, but on extremes."""
        return self._fp32_floors_db(extreme=False)

    @property
    def fp32_extreme_floors_db(self) -> dict[str, float]:
        """The same on extremes alone, which may ask for less than noise and photos do."""
        return self._fp32_floors_db(extreme=True)

    def _fp32_floors_db(self, *, extreme: bool) -> dict[str, float]:
        floors: dict[str, float] = {}
        for row in self.comparisons:
            if row.precision != "fp32" or row.floor_db is None:
                continue
            if names_extreme(row.inputs) == extreme:
                floors[row.output] = min(row.floor_db, floors.get(row.output, math.inf))
        return floors

    def report(self, batches: Batches | None = None) -> VerifyReport:
        """What ``verify.json`` has of it, at these batches."""
        return VerifyReport(
            passed=bool(self.comparisons) and not self.failures,
            comparisons=tuple(comparison.row() for comparison in self.comparisons),
            not_run=self.not_run,
            batches=batches,
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``report``."""
        return self.report().as_dict()

    def require(self) -> None:
        """Pass, or raise."""
        if not self.comparisons:
            raise VerificationError(
                "nothing was compared", details={"verification": self.as_dict()}
            )
        if failures := self.failures:
            names = list(dict.fromkeys(c.candidate for c in failures))
            only_half = all(c.precision in HALF_PRECISIONS for c in failures)
            raise VerificationError(
                f"{', '.join(names)} disagree{'s' if len(names) == 1 else ''} with eager fp32: "
                f"{failures[0].reason} in {failures[0].output} on {failures[0].inputs}; "
                "nothing was published",
                "--precision fp32" if only_half else "",
                {"verification": self.as_dict()},
            )
