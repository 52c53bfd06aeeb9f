"""What ``checks.json`` holds: ``verify`` writes these classes, and whoever reads it gets them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swin_deploy.machine import Machine
from swin_deploy.records import Number, Reasons, Rows, Text, finite
from swin_deploy.verify.comparison import ComparisonRow

KIND = "verify"
SCHEMA_VERSION = 2  # 2: checks have their precision


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthRow:
    """A tensor of both sides; numbers are None where JSON has none, as for equal tensors.

    Attributes:
        tensor: Its name.
        stage: Of the network.
        node: That computes it in the ONNX file.
        reason: Why it is wrong; empty if it is not.
        inputs: The image on which the two are furthest apart.
    """

    tensor: Text
    stage: Text
    node: Text
    sqnr_db: Number | None
    cosine: Number | None
    max_abs_error: Number | None
    reason: Text
    inputs: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The tensor that is furthest below the one in front of it."""

    tensor: Text
    drop_db: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectionReport:
    """What ``depth.Bisection`` comes to, which says what the parts are.

    Attributes:
        block: The first that is wrong.
        first: The first tensor that is wrong.
        stages: Stage -> what leaves it.
    """

    reference: Text
    candidate: Text
    floor_db: Number | None
    block: Text | None
    first: DepthRow | None
    largest_drop: Drop | None
    stages: dict[Text, DepthRow]
    rows: Rows[DepthRow]
    inside: Rows[DepthRow]
    unmatched: Rows[Text]
    notes: Rows[Text]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksReport:
    """``checks.json``.

    Attributes:
        run: The folder, as it was named.
        network: Its name.
        against: What another machine saved and this was compared with; None for nothing.
        machine: Where it ran.
        passed: The verdict.
        problem: Why it is not passed.
        checks: A row per comparison.
        bisections: Pairs of sides that were looked into.
        converted_exactly: Precisions whose graph is the FP32 graph, rounded, and nothing else.
        not_run: Side -> why this machine cannot run it.
        notes: What the user has to know.
    """

    run: Text
    network: Text
    against: Text | None
    machine: Machine
    passed: bool
    problem: Text
    checks: Rows[ComparisonRow]
    bisections: Rows[BisectionReport]
    converted_exactly: Rows[Text] = ()
    not_run: Reasons
    notes: Rows[Text]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``verify --json``."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **finite(asdict(self))}

    @property
    def judged(self) -> tuple[ComparisonRow, ...]:
        """Those of which anything was asked."""
        return tuple(row for row in self.checks if row.judged)

    @property
    def failed(self) -> tuple[ComparisonRow, ...]:
        """Those that did not pass."""
        return tuple(row for row in self.checks if not row.passed)
