"""Parts of the page about a run: its files, where it comes from, and how to make it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from swin_deploy.measure.bench.report import BenchReport
from swin_deploy.measure.evaluate.candidates import EagerRunner
from swin_deploy.measure.evaluate.report import EvaluateReport
from swin_deploy.measure.verify.report import ChecksReport
from swin_deploy.report.deployment import NEVER_RUN, Deployment, files_table, shell
from swin_deploy.report.figures import Figure
from swin_deploy.report.gather import ReportData, Source
from swin_deploy.report.tables import Table, code, make_table

_PHOTOS = "PHOTOS"  # stands for a folder that no file names
_PLAIN = {  # what a manifest calls it -> what people do
    "family": "family of networks",
    "source": "weights come from",
    "seed": "seed of the random weights",
    "repository": "repository of the weights",
    "name": "name of the weights",
    "revision": "version of the weights",
    "file": "file of the weights",
    "dialect": "its tensors are named as by",
    "sha256": "sha256 of that file",
    "crop": "share of the image that is kept",
    "crop_mode": "how images are cropped",
    "interpolation": "how images are resized",
    "mean": "mean that is subtracted, by channel",
    "std": "deviation that is divided by, by channel",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report, by its id on the page; the page shows what it has in this order.

    Commands are shell lines, each behind its caption.
    """

    name: str
    title: str
    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say."""
        return not any((self.words, self.figures, self.tables, self.commands, self.notes))


def deployed_section(data: ReportData) -> Section:
    """Every file of every run."""
    rows = data.rows(lambda source: source.deployment, lambda run: run.files)
    table = files_table("Files of the run, each with its recorded hash", rows)
    return Section(name="deployed", title="What was deployed", tables=(table,) if rows else ())


def provenance_section(data: ReportData) -> Section:
    """Networks, weights, compilers and machines."""
    facts: list[tuple[str, str, str]] = []
    for source in data.sources:
        pairs: list[tuple[str, str]] = []
        if (run := source.deployment) is not None:
            low, high = run.batch
            pairs += [
                ("network", f"{run.network}, {run.parameters:,} parameters"),
                ("image (pixels)", "x".join(map(str, run.image_size))),
                ("batch", str(high) if low == high else f"{low} to {high}"),
                ("outputs", f"{run.outputs}, {run.interface}"),
                ("weights", run.weights),
                ("compilers", ", ".join(run.compilers)),
                *(
                    (_PLAIN.get(name, name.replace("_", " ")), value)
                    for name, value in run.settings.items()
                ),
            ]
        if (machine := source.machine) is not None:
            pairs += [
                ("measured on", f"{machine.processor}, {machine.cores} cores, "
                 f"{machine.memory_gib:g} GiB"),
                ("system", machine.system),
                ("packages", ", ".join(f"{k} {v}" for k, v in sorted(machine.packages.items()))),
            ]  # fmt: skip
        facts += [(data.label(source), name, value) for name, value in pairs]
    table = make_table("Where it comes from", ("run", "fact", "value"), facts)
    return Section(name="provenance", title="Provenance", tables=(table,) if facts else ())


def warnings_section(data: ReportData) -> Section:
    """All that the user has to know."""
    notes = []
    for source in data.sources:
        own: list[str] = []
        if source.deployment is not None:
            if source.deployment.random:
                own.append("The weights are random: good for timing, not for predictions.")
            own += source.deployment.notes
        if source.verify is not None:
            own += [f"{NEVER_RUN}: {name}: {why}" for name, why in source.verify.not_run.items()]
        for part in (source.bench, source.evaluate):
            if part is not None:
                own += [f"{name} was not run: {why}" for name, why in part.not_run.items()]
        own += source.bench.warnings if source.bench else ()
        own += source.evaluate.notes if source.evaluate else ()
        own += [
            f"{name} of evaluate.json is no file of this run as it is now" for name in _gone(source)
        ]
        own += source.checks.notes if source.checks else ()
        own += source.scaling.notes if source.scaling else ()
        own += source.sensitivity.notes if source.sensitivity else ()
        own += [f"{e.name}: {warning}" for e in source.costs for warning in e.warnings]
        notes += [data.named(source, note) for note in dict.fromkeys(own)]
    words = () if notes else ("None.",)
    return Section(name="warnings", title="Warnings", notes=tuple(notes), words=words)


def _gone(source: Source) -> list[str]:
    """Artifacts that were evaluated and are not in the run: of an earlier one, or of another."""
    if source.deployment is None or source.evaluate is None:
        return []
    present = {file.sha256 for file in source.deployment.files}
    return [row.name for row in source.evaluate.artifacts if not present.issuperset(row.sha256)]


def missing_section(data: ReportData) -> Section:
    """What this report could say and cannot, with the commands that make it."""
    rows = [
        (label, missing.part, code(missing.command))
        for label, missing in data.rows(lambda source: source.missing, iter)
    ]
    table = make_table("Not in this report", ("run", "what", "made by"), rows)
    return Section(name="missing", title="Missing", tables=(table,) if rows else ())


def reproduce_section(data: ReportData) -> Section:
    """The commands, from the manifests and reports, and what of them is not recorded."""
    commands, notes = [], []
    for source, run in data.having(lambda source: source.deployment):
        lines, lacks = _commands(source, run)
        commands.append((data.label(source), "\n".join(lines)))
        notes += [data.named(source, f"not recorded: {lack}") for lack in lacks]
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


SECTIONS = (deployed_section, provenance_section, warnings_section, missing_section,
            reproduce_section)  # fmt: skip
