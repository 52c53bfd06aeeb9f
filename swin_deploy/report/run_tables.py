"""A run: what was made, how it compares with eager PyTorch, and where networks part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from swin_deploy.core.records import decode
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.measure.verify.report import BisectionReport, ChecksReport, DepthRow
from swin_deploy.report.deployment import NEVER_RUN, describe_weights, files_table, list_files
from swin_deploy.report.tables import Cell, Columns, Part, Table, alone, number, tabulate, text

if TYPE_CHECKING:
    from swin_deploy.pipeline.recommend import Recommendation
    from swin_deploy.pipeline.run import RunResult


ABOVE_ALL = 1e9  # how equal results are sorted
_TITLES = {
    "outputs": "outputs",
    "slots": "one image in every slot of a batch, against itself alone",
    "saved": "outputs that were saved, against those of this machine",
}


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
    return text("ok", "good") if row.passed else text(f"FAILED: {row.reason}", "bad")


def _verdict_of_verify(row: ComparisonRow) -> Cell:
    return _verdict(row) if row.judged or not row.passed else text("not judged")


_COMPARED: Columns[ComparisonRow] = (
    ("candidate", lambda row: row.candidate),
    ("verdict", _verdict),
    ("reference", lambda row: row.reference),
    ("inputs", lambda row: row.inputs),
    ("output", lambda row: row.output),
    (">SQNR / floor (dB)", lambda row: decibels_cell(row.sqnr_db, row.floor_db, row.passed)),
    (">cosine", lambda row: number(row.cosine, ".7f")),
    (">max error", lambda row: number(row.max_abs_error, ".1e")),
    (">same class (%)", lambda row: number(row.top1_agreement and 100 * row.top1_agreement, ".0f")),
)


def comparisons_table(
    caption: str,
    rows: Iterable[tuple[str, ComparisonRow]],
    without: Collection[str] = (),
    verdict: Callable[[ComparisonRow], Cell] = _verdict,
) -> Table:
    """A row a comparison, of the export or of ``verify``."""
    columns = [(title, verdict if title == "verdict" else cell) for title, cell in _COMPARED]
    return tabulate(caption, columns, rows, without)


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
    rows = decode(tuple[ComparisonRow, ...], comparisons, "comparisons", own=True)
    yield _folded(rows, "against eager PyTorch fp32", ["reference"])


def _folded(
    rows: Iterable[ComparisonRow],
    caption: str,
    without: Collection[str] = (),
    verdict: Callable[[ComparisonRow], Cell] = _verdict,
) -> Table:
    folded = fold_outputs(rows)
    several = any(outputs > 1 for _, outputs in folded)
    caption += ": of each, the worst output" if several else ""
    without = [*without, *([] if several else ["output"])]
    shown = alone(row for row, _ in folded)
    return comparisons_table(caption, shown, without, verdict).ending_with("verdict")


def verify_summary(content: dict[str, Any]) -> Iterator[Part]:
    """What was compared, where two sides part, what did not run, and the verdict."""
    report = decode(ChecksReport, content, "report", own=True)
    for kind, title in _TITLES.items():
        rows = [row for row in report.checks if row.kind == kind]
        if rows:
            shown = _worst_of_slots(rows) if kind == "slots" else rows
            yield _folded(shown, title, verdict=_verdict_of_verify)
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
