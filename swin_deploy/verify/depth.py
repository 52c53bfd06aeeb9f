"""Two forms of a network along the depth: a row per tensor, and what the rows say."""

from __future__ import annotations

from dataclasses import dataclass, field

from swin_deploy.records import finite
from swin_deploy.verify.comparison import Comparison, Kind
from swin_deploy.verify.report import BisectionReport, DepthRow, Drop

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
