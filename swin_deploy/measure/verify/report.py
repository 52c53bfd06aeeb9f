"""What ``verify`` is asked, and what ``checks.json`` holds, typed for writer and reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import Checked, ConfigError, SwinDeployError, caught
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.records import Number, Reasons, Rows, Text, finite
from swin_deploy.core.reports import require_report
from swin_deploy.data.images import require_photos
from swin_deploy.engine.here import Machine
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.measure.verify.saved import require_npz, require_saved
from swin_deploy.run.details import GRAPHS, INT8_GRAPHS, RAW
from swin_deploy.run.finished import Run, require_run

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
    """What ``bisect.Bisection`` comes to, which says what the parts are.

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
        not_run: Candidate -> why this machine cannot run it.
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


EAGER = "eager"
SIDES = {  # name of a side -> its graph
    "raw": RAW,
    "onnx": GRAPHS["fp32"],
    "fp16": GRAPHS["fp16"],
    "bf16": GRAPHS["bf16"],
    "int8": INT8_GRAPHS["tensorrt"],
    "int8-cpu": INT8_GRAPHS["onnxruntime"],
}


def require_candidate(run: Run, name: str) -> None:
    """Check that a run has a side of that name, or that it is the path of an ONNX file.

    Raises:
        ConfigError: The run has none of that name.
        InputError: The file is no ONNX file, as far as a look tells.
    """
    graphs = (side for side, file in SIDES.items() if file in run.files)
    names = [EAGER, *graphs, *run.engines]
    if name in names:
        return
    if not name.endswith(".onnx"):
        raise ConfigError(
            f"{run.path} has nothing called {name}",
            f"{', '.join(names)}, or the path of an ONNX file",
        )
    require_plain_file(Path(name), "an ONNX model")


_EARLIER = ("checks", "bisections")  # what reports have that do not say their kind


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest(Checked):
    """A run, and what of it is compared with what.

    Fields are the options of ``verify``; here is what its help does not say.

    Attributes:
        between: Reference first; empty for eager with everything that runs here.
        limit: None for all photos.
        batches: None for those of the run.
        out: None for ``checks.json`` in the run folder.
    """

    run: Path
    between: tuple[tuple[str, str], ...] = ()
    images: Path | None = None
    limit: int | None = None
    batches: tuple[int, ...] | None = None
    bisect: bool = False
    save: Path | None = None
    against: Path | None = None
    out: Path | None = None

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        if self.limit is not None and self.limit < 1:
            yield ConfigError(f"limit = {self.limit} must be at least 1")
        if self.limit is not None and self.images is None:
            yield ConfigError("--limit is for photos, and none are named", "--images DIR")
        if self.batches is not None and min(self.batches) < 1:
            yield ConfigError(f"batches {self.batches}: each must be at least 1")
        others = {
            "--between": self.between,
            "--images": self.images,
            "--batches": self.batches,
            "--bisect": self.bisect,
            "--save": self.save,
        }
        if self.against is not None and (named := [name for name, v in others.items() if v]):
            yield ConfigError(
                f"--against takes inputs and names from its file, not {', '.join(named)}",
                "two commands",
            )
        for pair in self.between:
            if pair[0] == pair[1]:
                yield ConfigError(f"{pair[0]} is compared with itself", "--between eager,onnx")
        if self.save is not None:
            yield from caught(require_npz, self.save)

    def missing(self) -> Iterator[SwinDeployError]:
        """What a look finds wrong with the run, the photos, and what another machine saved."""
        try:
            run = require_run(self.run)
        except SwinDeployError as error:
            yield error
        else:
            for name in dict.fromkeys(name for pair in self.between for name in pair):
                yield from caught(require_candidate, run, name)
        if self.images is not None:
            yield from caught(require_photos, self.images)
        if self.against is not None:
            yield from caught(require_saved, self.against)
        yield from caught(self.require_place)

    def require_place(self) -> None:
        """Check that the report takes the place of nothing else.

        Raises:
            FileAccessError: It would.
        """
        require_report(self.report, KIND, _EARLIER)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.run / "checks.json" if self.out is None else self.out
