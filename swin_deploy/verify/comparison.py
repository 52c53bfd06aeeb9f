"""The gate's verdicts: floors, one comparison, and all comparisons of a run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from swin_deploy.errors import VerificationError
from swin_deploy.precisions import HALF_PRECISIONS, Precision

SCHEMA_VERSION = 2  # 2: a row per output, where there was one per candidate and inputs

# Lowest SQNR against eager FP32 that a candidate may have on its worst image, in dB. Measured by
# scripts/measure_floors.py over networks, seeds, noise and photos; docs/proof.md has it. FP32: the
# worst logits are at 113 dB, and the damage that the tests do leaves less than 35. FP16: the
# worst logits are at 41.2 dB, of the smallest Swin V2, with every result rounded; compilers round
# less often. BF16: the worst maps of the same are at 15.2 dB; the floor is 6 dB below, twice the
# error. INT8: the worst of 1000 digits is at 26.5 dB with swin_pocket (docs/int8.md; 18.5 with the
# entropy method, which the gate may refuse), about 6 dB above.
# Damage may leave more than the last two: what tells a right graph from a wrong one there is
# graph/structure.py.
FLOORS_DB: dict[Precision, float] = {"fp32": 110.0, "fp16": 40.0, "bf16": 9.0, "int8": 20.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One output of a candidate against the reference on one set of inputs; true if it passed.

    Attributes:
        candidate: What was compared.
        inputs: On which images.
        output: Which of its outputs.
        sqnr_db: With the noise of the worst image.
        cosine: Of the worst image.
        max_abs_error: In the unit of the outputs.
        top1_agreement: 0 to 1; None where the outputs are not logits.
        floor_db: What ``sqnr_db`` had to reach.
        reason: Why it failed; empty if it passed.
    """

    candidate: str
    inputs: str
    output: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    top1_agreement: float | None
    floor_db: float
    reason: str

    def __bool__(self) -> bool:
        return not self.reason

    @property
    def below_floor(self) -> bool:
        """Whether it failed because of its SQNR, and not because nothing could be compared."""
        return math.isfinite(self.sqnr_db) and self.sqnr_db < self.floor_db


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
        """Output -> the lowest floor that an FP32 comparison of it was held to."""
        floors: dict[str, float] = {}
        for comparison in self.comparisons:
            if comparison.floor_db > FLOORS_DB["fp16"]:
                lowest = min(comparison.floor_db, floors.get(comparison.output, math.inf))
                floors[comparison.output] = lowest
        return floors

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``verify.json``; infinite decibels become null."""
        rows = []
        for comparison in self.comparisons:
            row = asdict(comparison) | {"passed": bool(comparison)}
            rows.append({k: _finite(v) if isinstance(v, float) else v for k, v in row.items()})
        return {
            "schema_version": SCHEMA_VERSION,
            "reference": "eager fp32",
            "passed": bool(self.comparisons) and not self.failures,
            "comparisons": rows,
            "not_run": self.not_run,
        }

    def require(self) -> None:
        """Pass, or raise.

        Raises:
            VerificationError: A candidate is below its floor, or nothing was compared.
        """
        if not self.comparisons:
            raise VerificationError(
                "nothing was compared", details={"verification": self.as_dict()}
            )
        if failures := self.failures:
            names = list(dict.fromkeys(c.candidate for c in failures))
            low = {FLOORS_DB[precision] for precision in HALF_PRECISIONS}
            only_half = all(c.floor_db in low for c in failures)
            raise VerificationError(
                f"{', '.join(names)} disagree{'s' if len(names) == 1 else ''} with eager fp32: "
                f"{failures[0].reason} in {failures[0].output} on {failures[0].inputs}; "
                "nothing was published",
                "--precision fp32" if only_half else "",
                {"verification": self.as_dict()},
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
