"""The commands that make a run and all that was measured of it again."""

from __future__ import annotations

from pathlib import PurePath

from swin_deploy.bench.report import BenchReport
from swin_deploy.evaluate.eager import EagerRunner
from swin_deploy.evaluate.report import EvaluateReport
from swin_deploy.report.page.deployment import Deployment, shell
from swin_deploy.report.page.gather import ReportData, Source
from swin_deploy.report.page.section import Section, having, label, named
from swin_deploy.verify.report import ChecksReport

_PHOTOS = "PHOTOS"  # stands for a folder that no file names


def reproduce_section(data: ReportData) -> Section:
    """The commands, from the manifests and reports, and what of them is not recorded."""
    commands, notes = [], []
    for source, run in having(data, lambda source: source.deployment):
        lines, lacks = _commands(source, run)
        commands.append((label(data, source), "\n".join(lines)))
        notes += [named(data, source, f"not recorded: {lack}") for lack in lacks]
    return Section(
        name="reproduce", title="How to reproduce", commands=tuple(commands), notes=tuple(notes)
    )


def _commands(source: Source, run: Deployment) -> tuple[list[str], list[str]]:
    lines, lacks = [run.command], list(run.command_lacks)
    if source.bench is not None:
        lines.append(_bench(source.bench, run))
        if not source.bench.baselines:
            lacks.append("the --baselines of bench, by the version that wrote bench.json")
    if source.evaluate is not None:
        lines.append(_evaluate(source.evaluate, run.folder))
        lacks.append("--labels, --class-map and --sorted-folders of evaluate, where it had them")
    if source.checks is not None:
        lines.append(_verify(source.checks, run.folder))
        if _PHOTOS in lines[-1]:
            lacks.append("the folder of the photos that verify compared on")
    if (found := source.sensitivity) is not None:
        words = ["sensitivity", run.folder, "--calibration", _PHOTOS, "--method", found.method]
        lines.append(shell("swin-deploy", *words, "--kind", found.recipe))
        lacks.append("the folder of the photos of sensitivity, and its goal")
    lines.append(shell("swin-deploy", "report", run.folder))
    return lines, lacks


def _bench(bench: BenchReport, run: Deployment) -> str:
    """One engine alone where one alone was measured."""
    inside = (file.path for file in run.files if bench.engine.endswith(f"/{file.path}"))
    engine = PurePath(run.folder, next(inside, ""))
    batches = bench.batches or sorted({row.batch for row in bench.measurements})
    words = ["--engine", str(engine), "--batches", ",".join(map(str, batches))]
    words += ["--rounds", str(bench.rounds), "--threads", str(bench.threads)]
    words += ["--baselines", ",".join(bench.baselines)] if bench.baselines else []
    return shell("swin-deploy", "bench", *words)


def _evaluate(found: EvaluateReport, folder: str) -> str:
    """All artifacts, once each; those of the run by its name here, wherever the run was then."""
    home = PurePath(found.report).parent
    paths = [PurePath(row.path) for row in found.artifacts if row.path]
    words = [
        str(PurePath(folder, path.relative_to(home)) if path.is_relative_to(home) else path)
        for path in dict.fromkeys(paths)
    ] or [folder]
    words += ["--data", found.data]
    if found.artifacts and found.artifacts[0].name.startswith(EagerRunner.name):
        words.append("--eager")
    sample = found.identity.images[0] if found.identity.images else None
    if sample is not None and sample.count < found.found:
        words += ["--limit", str(sample.count)]
        words += ["--seed", str(sample.seed)] if sample.seed else []
    settings = found.identity.settings
    words += ["--batch", str(settings.batch), "--threads", str(settings.threads)]
    return shell("swin-deploy", "evaluate", *words)


def _verify(checks: ChecksReport, folder: str) -> str:
    words = ["--against", checks.against] if checks.against is not None else []
    if not words and any(row.inputs.startswith("photos ") for row in checks.checks):
        words = ["--images", _PHOTOS]
    words += ["--bisect"] if checks.bisections else []
    return shell("swin-deploy", "verify", folder, *words)
