"""A run: its files, how it compares with eager PyTorch, and where networks part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.precisions import HALF_PRECISIONS
from swin_deploy.records import Count, Text, decode
from swin_deploy.report.tables import (
    Cell,
    Columns,
    Part,
    Table,
    alone,
    code,
    number,
    tabulate,
    text,
)
from swin_deploy.run.manifest import StageRecord
from swin_deploy.verify.comparison import ComparisonRow
from swin_deploy.verify.report import BisectionReport, ChecksReport, DepthRow

if TYPE_CHECKING:
    from swin_deploy.pipeline.recommend import Recommendation
    from swin_deploy.pipeline.run import RunResult

NEVER_RUN = "NEVER RUN"  # an engine that no machine has run
ABOVE_ALL = 1e9  # how equal results are sorted
_HASH = 12  # characters of a sha256 that tables show; report.json has all
_BESIDE = {".kernels.json": "its kernels: swin-deploy cost", ".log": "what its compiler said"}
_TITLES = {
    "outputs": "outputs",
    "slots": "one image in every slot of a batch, against itself alone",
    "saved": "outputs that were saved, against those of this machine",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedFile:
    """A file that the manifest lists.

    Attributes:
        size_bytes: None where the file is not there any more.
        sha256: As it was recorded.
        what: What the stage found out.
        seconds: That the stage took.
    """

    stage: Text
    path: Text
    size_bytes: Count | None
    sha256: Text
    what: Text
    seconds: float


def list_files(stages: Mapping[str, StageRecord], folder: Path) -> list[DeployedFile]:
    """In the order in which they were made."""
    return [
        DeployedFile(
            stage=stage,
            path=path,
            size_bytes=(folder / path).stat().st_size if (folder / path).is_file() else None,
            sha256=value,
            what=_BESIDE.get("".join(Path(path).suffixes), "") or describe_stage(stage, stages),
            seconds=record.seconds,
        )
        for stage, record in stages.items()
        for path, value in record.outputs.items()
    ]


def files_table(
    caption: str,
    files: Iterable[tuple[str, DeployedFile]],
    current: Collection[str] = (),
    without: Collection[str] = (),
) -> Table:
    """A row a file; ``current`` are stages that did not have to run."""

    def seconds(file: DeployedFile) -> Cell:
        if "".join(Path(file.path).suffixes) in _BESIDE:
            return text("")  # its engine has them
        return text("current") if file.stage in current else number(file.seconds, ",.1f")

    columns: Columns[DeployedFile] = (
        ("stage", lambda file: file.stage.partition(":")[0]),
        ("file", lambda file: code(file.path)),
        (">MB", lambda file: number(_mega(file.size_bytes))),
        ("what", lambda file: file.what),
        ("sha256", lambda file: code(file.sha256[:_HASH])),
        (">seconds", seconds),
    )
    return tabulate(caption, columns, files, without)


def _mega(size: int | None) -> float | None:
    return None if size is None else size / 1e6


def describe_weights(weights: Mapping[str, Any]) -> str:
    """Where the weights came from, by what the manifest has of them."""
    if weights["source"] == "random":
        return (
            f"RANDOM (seed {weights['seed']}): good for timing and for proving the conversion, "
            "not for predictions"
        )
    origin = weights.get("repository") or weights.get("name")
    origin = f"{weights['source']}:{origin} at {weights['revision'][:12]}, " if origin else ""
    return f"{origin}{weights['file']} ({weights['dialect']}), sha256 {weights['sha256'][:12]}"


def never_run(stages: Mapping[str, StageRecord]) -> dict[str, str]:
    """Stage of an engine that nothing has run -> why; the gate knows it as "engine NAME"."""
    left = stages["verify"].details.get("not_run", {}) if "verify" in stages else {}
    return {name.replace("engine ", "engine:", 1): reason for name, reason in left.items()}


def describe_stage(stage: str, stages: Mapping[str, StageRecord]) -> str:
    """What a stage of a run found out, in a few words."""
    details = stages[stage].details
    if stage == "weights":
        return f"{details['tensors']} tensors, {details['dropped']} others left out"
    if stage == "export":
        return f"{details['nodes']} nodes"
    if stage == "simplify":
        kept = " (kept as exported)" if details["failure"] else ""
        return f"{details['nodes_before']} -> {details['nodes_after']} nodes{kept}"
    if stage == "interface":
        ends = {**details["inputs"], **details["outputs"]}
        return ", ".join(f"{name} {dtype}" for name, (dtype, _) in ends.items())
    if stage in HALF_PRECISIONS:
        kept = f", {len(details['fp32_nodes'])} nodes in FP32" if details["fp32_nodes"] else ""
        return f"{details['weights']} tensors, largest {details['largest']:.4g}{kept}"
    if stage == "calibrate":
        return f"{details['images']} of {details['found']} images, {details['tensors']} tensors"
    if stage.startswith("int8:"):
        agreement = details["agreement"]
        words = (
            f"{details['method']}: {len(details['gemms'])} products, {len(details['attentions'])} "
            f"attentions; {agreement['sqnr_db']:.1f} dB on {agreement['inputs']}"
        )
        if (accuracy := details["accuracy"]) is not None:
            own, full = accuracy["int8"]["top1"], accuracy["fp32"]["top1"]
            words += f", top-1 {own:.2f} % of {accuracy['images']} (FP32 {full:.2f} %)"
        return words
    if stage == "verify":
        return f"{details['comparisons']} comparisons passed"
    words = f"{details['module']} {details['version']}"
    if details["kernels"] is not None:
        words += f": {details['kernels']} kernels, {details['fused_attentions']} fused attentions"
    return f"{NEVER_RUN}, {words}" if stage in never_run(stages) else words


def run_summary(result: RunResult) -> Iterator[Part]:
    """What was made, how long it took, and how it compares with the eager network."""
    header = result.header
    config, batch = header["variant"], header["batch"]
    yield (
        f"{config['name']}: {header['parameters']:,} parameters, "
        f"image {config['image_size'][0]}x{config['image_size'][1]}, batch {batch_text(batch)}"
    )
    shapes = result.stages["export"].details["outputs"]
    if "interface" in result.stages:
        ends = result.stages["interface"].details["outputs"]
        shapes = {name: shape for name, (_, shape) in ends.items()}
    outputs = (f"{name} ({', '.join(map(str, shapes[name]))})" for name in shapes)
    yield f"outputs: {', '.join(outputs)}"
    yield f"weights: {describe_weights(header['weights'])}"
    yield ""
    files = list_files(result.stages, result.path)
    yield files_table("", alone(files), result.current, without=["sha256"])
    yield ""
    yield from comparisons_summary(result.verification["comparisons"])
    for name, reason in result.verification["not_run"].items():
        yield text(
            f"{NEVER_RUN}: {name}: {reason}; the graph that it was compiled from passed, and it is "
            "what its compiler wrote: no more is known of it",
            "doubtful",
        )
    yield ""
    all_current = len(result.current) == len(result.stages)
    verb = "nothing to do, all stages current" if all_current else "done"
    yield f"{verb} in {result.seconds:.1f} s: {result.path}"


def recommendation_words(found: Sequence[Recommendation]) -> Iterator[Part]:
    """Which precision to ship to each target, and why."""
    for one in found:
        verb = "by cost, for" if one.basis == "cost" else "ship to"
        yield f"{verb} {one.target}: {one.precision}, {one.reason}"


def batch_text(batch: Mapping[str, int]) -> str:
    """A size or a range."""
    low, high = batch["low"], batch["high"]
    return str(high) if low == high else f"{low}:{high}"


def decibels_cell(sqnr_db: float | None, floor_db: float | None, right: bool) -> Cell:
    """Signal to noise, and its floor; null stands for equal, or for what cannot be compared."""
    floor = "" if floor_db is None else f" / {floor_db:.0f}"
    if sqnr_db is None:
        return Cell(f"equal{floor}", ABOVE_ALL) if right else text(f"-{floor}")
    return Cell(f"{sqnr_db:.1f}{floor}", sqnr_db)


def _verdict(row: ComparisonRow) -> Cell:
    if not row.passed:
        return text(f"FAILED: {row.reason}", "bad")
    return text("ok", "good") if row.judged else text("not judged")


_COMPARED: Columns[ComparisonRow] = (
    ("candidate", lambda row: row.candidate),
    ("verdict", _verdict),
    ("reference", lambda row: row.reference),
    ("inputs", lambda row: row.inputs),
    ("output", lambda row: row.output),
    (">SQNR / floor (dB)", lambda row: decibels_cell(row.sqnr_db, row.floor_db, row.passed)),
    (">cosine", lambda row: number(row.cosine, ".7f")),
    (">max error", lambda row: number(row.max_abs_error, ".1e")),
    (">same class (%)", lambda row: number(_percent(row.top1_agreement), ".0f")),
)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def comparisons_table(
    caption: str, rows: Iterable[tuple[str, ComparisonRow]], without: Collection[str] = ()
) -> Table:
    """A row a comparison, of the export or of ``verify``."""
    return tabulate(caption, _COMPARED, rows, without)


def fold_outputs(rows: Iterable[ComparisonRow]) -> list[tuple[ComparisonRow, int]]:
    """Of each candidate and set of inputs every output that failed, else the one nearest its floor.

    The outputs of a candidate and set of inputs have to stand together; each row that is left
    comes with the number of those that it stands among.
    """

    def sqnr_db(row: ComparisonRow) -> float:
        """Of a row that passed, where null stands for no difference at all."""
        return float("inf") if row.sqnr_db is None else row.sqnr_db

    folded = []
    for _, group in groupby(rows, lambda row: (row.reference, row.candidate, row.inputs)):
        outputs = list(group)
        shown = [row for row in outputs if not row.passed] or [min(outputs, key=sqnr_db)]
        folded += [(row, len(outputs)) for row in shown]
    return folded


def comparisons_summary(comparisons: list[dict[str, Any]]) -> Iterator[Part]:
    """Those of ``verify.json``: of several outputs the worst, or those that failed."""
    rows = decode(tuple[ComparisonRow, ...], comparisons, "comparisons", newer=True)
    yield _folded(rows, "against eager PyTorch fp32", ["reference"])


def _folded(rows: Iterable[ComparisonRow], caption: str, without: Collection[str] = ()) -> Table:
    folded = fold_outputs(rows)
    several = any(outputs > 1 for _, outputs in folded)
    caption += ": of each, the worst output" if several else ""
    without = [*without, *([] if several else ["output"])]
    return comparisons_table(caption, alone(row for row, _ in folded), without).ending_with(
        "verdict"
    )


def verify_summary(content: dict[str, Any]) -> Iterator[Part]:
    """What was compared, where two sides part, what did not run, and the verdict."""
    report = decode(ChecksReport, content, "report", newer=True)
    for kind, title in _TITLES.items():
        rows = [row for row in report.checks if row.kind == kind]
        if rows:
            yield _folded(_worst_of_slots(rows) if kind == "slots" else rows, title)
            yield ""
    yield from dict.fromkeys(row.reason for row in report.checks if not row.judged)
    for found in report.bisections:
        yield from _bisection(found)
        yield ""
    for name, reason in report.not_run.items():
        yield f"{name} was not run here: {reason}"
    if report.converted_exactly:
        names = ", ".join(name.upper() for name in report.converted_exactly)
        yield f"compared exactly with what they were made from: {names}"
    rest = len(report.checks) - len(report.judged)
    others = f", {rest} reported and not judged" if rest else ""
    verdict = text("passed", "good") if report.passed else text(f"FAILED: {report.problem}", "bad")
    yield text(f"{len(report.judged)} comparisons judged{others}: {verdict.text}", verdict.tone)


def _worst_of_slots(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """All that failed, and of every other side the batch that is nearest its floor."""
    shown: list[ComparisonRow] = []
    for name in dict.fromkeys(row.candidate for row in rows):
        own = [row for row in rows if row.candidate == name]
        failed = [row for row in own if not row.passed]
        shown += failed or [min(own, key=lambda row: row.sqnr_db or float("inf"))]
    return shown


def _bisection(found: BisectionReport) -> Iterator[Part]:
    title = f"{found.candidate} against {found.reference}, along the depth"
    yield _tensors(title, found.rows, found.floor_db)
    if found.inside:
        yield ""
        yield _tensors(f"inside {found.block}", found.inside, found.floor_db)
    leaving = (
        f"{name} {decibels_cell(row.sqnr_db, None, not row.reason).text}"
        for name, row in found.stages.items()
    )
    yield f"dB where each stage ends: {', '.join(leaving)}"
    first, drop = found.first, found.largest_drop
    if first is not None:
        yield (
            f"first tensor that leaves its floor: {first.tensor} ({first.stage}; "
            f"{first.reason} on {first.inputs})"
        )
    elif found.floor_db is not None:
        yield f"every tensor has at least {found.floor_db:.0f} dB"
    if drop is not None and drop.drop_db is not None:
        yield f"largest single drop: {drop.drop_db:.1f} dB, at {drop.tensor}"
    if found.unmatched:
        yield f"only in one of them: {', '.join(found.unmatched)}"
    yield from found.notes


def _tensors(caption: str, rows: Sequence[DepthRow], floor_db: float | None) -> Table:
    def verdict(row: DepthRow) -> Cell:
        below = row.reason and row.sqnr_db is not None
        return text("BELOW ITS FLOOR" if below else row.reason, "bad" if row.reason else "")

    columns: Columns[tuple[int, DepthRow]] = (
        (">depth", lambda row: str(row[0])),
        ("stage", lambda row: row[1].stage),
        ("tensor", lambda row: row[1].tensor),
        (
            ">SQNR / floor (dB)",
            lambda row: decibels_cell(row[1].sqnr_db, floor_db, not row[1].reason),
        ),
        (">cosine", lambda row: number(row[1].cosine, ".7f")),
        (">max error", lambda row: number(row[1].max_abs_error, ".1e")),
        ("verdict", lambda row: verdict(row[1])),
    )
    return tabulate(caption, columns, alone(enumerate(rows)))
