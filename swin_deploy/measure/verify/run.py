"""One call from a run folder to a finished ``verify`` report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import VerificationError
from swin_deploy.core.files import require_writable
from swin_deploy.core.reports import replace_report
from swin_deploy.data.images import InputSet, find_photos
from swin_deploy.engine.here import describe_machine
from swin_deploy.measure.verify.bisect import Bisection
from swin_deploy.measure.verify.candidates import list_candidates
from swin_deploy.measure.verify.checks import make_inputs
from swin_deploy.measure.verify.comparison import Comparison
from swin_deploy.measure.verify.conversions import require_as_built, require_conversions
from swin_deploy.measure.verify.report import ChecksReport, VerifyRequest
from swin_deploy.measure.verify.saved import read_outputs
from swin_deploy.measure.verify.session import Session, compare_saved, save_session
from swin_deploy.network.interface import Precision, new_seed
from swin_deploy.network.model.build import load_model
from swin_deploy.run.finished import Run, require_run


def check_run(request: VerifyRequest, progress: Callable[[str], None]) -> dict[str, Any]:
    """Compare, and write the report; it has the verdict, see ``require_passed``.

    Args:
        request: What to compare.
        progress: Is told what is being done.

    Returns:
        The JSON object of ``verify --json``.

    Raises:
        SwinDeployError: The run, a file or an image cannot be used.
    """
    request.require_place()
    opened = require_run(request.run)
    require_writable(request.report.absolute().parent)
    if request.save is not None:
        require_writable(request.save.absolute().parent, "--save in a folder that you own")
    saved = None if request.against is None else read_outputs(request.against)
    progress("building the eager network")
    model = load_model(opened.config, opened.weights, opened.seed)
    bisections: list[Bisection] = []
    exact: list[Precision] = []
    inexact = ""
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        session = Session(opened, model, list_candidates(opened), Path(folder), progress)
        if saved is not None and request.against is not None:
            notes = compare_saved(session, saved, request.against)
        else:
            if not request.between:
                progress("comparing every graph with what it was made from")
                exact, inexact = _compare_exactly(opened, Path(folder))
            inputs, notes = _make_inputs(opened, request)
            pairs = session.pairs(request.between)
            session.compare(pairs, inputs)
            if request.bisect:
                bisections = session.bisect(pairs, inputs)
                if not bisections:
                    notes.append("both of every pair have the same graph: nothing to look into")
            if request.save is not None:
                save_session(session, request.save, inputs)
    problem = "; ".join(filter(None, (inexact, find_problem(session.checks, bisections))))
    report = ChecksReport(
        run=str(request.run),
        network=opened.config.name,
        against=None if request.against is None else str(request.against),
        machine=describe_machine(),
        passed=not problem,
        problem=problem,
        checks=tuple(check.row() for check in session.checks),
        bisections=tuple(found.report() for found in bisections),
        converted_exactly=tuple(exact),
        not_run=session.not_run,
        notes=tuple(notes),
    ).as_dict()
    replace_report(request.report, report, "notes")
    return report


def _compare_exactly(opened: Run, scratch: Path) -> tuple[list[Precision], str]:
    """Precisions that are the FP32 graph, rounded, and what is wrong, as the export asked it."""

    def file(name: str) -> Path:
        return opened.file(name).copy_to(scratch)

    try:
        exact = require_conversions(opened.manifest, file)
        require_as_built(opened.manifest, file)
    except VerificationError as error:
        return [], error.problem  # with all else, in one report
    return exact, ""


def find_problem(checks: Sequence[Comparison], bisections: Sequence[Bisection] = ()) -> str:
    """What is wrong, worst first; "" if all that was judged passed, and something was."""
    if failed := sorted((c for c in checks if not c), key=lambda c: c.sqnr_db):
        worst = failed[0]
        pairs = list(dict.fromkeys(f"{c.candidate} and {c.reference}" for c in failed))
        return (
            f"{'; '.join(pairs)} disagree: {worst.reason} in {worst.output} of "
            f"{worst.candidate} on {worst.inputs}" + _named(bisections)
        )
    if named := _named(bisections):
        return f"outputs agree, and a tensor inside does not{named}"
    if not any(check.judged for check in checks if check.kind != "slots"):
        return "nothing was compared that could be judged"
    return ""


def require_passed(report: dict[str, Any]) -> None:
    """Pass, or raise."""
    if not report["passed"]:
        raise VerificationError(report["problem"], details={"report": report})


def _named(bisections: Sequence[Bisection]) -> str:
    return "".join(
        f"; the first tensor of {found.candidate} that leaves {found.reference} is "
        f"{found.first.output}"
        for found in bisections
        if found.first is not None
    )


def _make_inputs(opened: Run, request: VerifyRequest) -> tuple[list[InputSet], list[str]]:
    photos = None if request.images is None else find_photos(request.images, request.limit)
    sizes, notes = request.batches, []
    if not sizes:
        sizes = opened.batch.checked_sizes(new_seed())
        if opened.batch.drawn:
            text = ",".join(map(str, sizes))
            notes.append(f"batches of {text} were drawn; --batches {text} takes the same")
    inputs, left_out = make_inputs(opened, sizes, photos)
    return inputs, [*notes, *(f"left out: {problem}" for problem in left_out)]
