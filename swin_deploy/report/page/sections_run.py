"""What was deployed, where it came from, what to know of it, and how to make it again."""

from __future__ import annotations

from swin_deploy.report.describe import NEVER_RUN
from swin_deploy.report.page.gather import ReportData, Source
from swin_deploy.report.page.section import Section, having, label_cell, named
from swin_deploy.report.page.tables import Cell, code, make_table, measure, number, text

_MB = 1e6
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
_HASH = 12  # characters of a sha256 that tables show; report.json has all


def deployed_section(data: ReportData) -> Section:
    """Every file of every run."""
    runs = list(having(data, lambda source: source.deployment))
    rows = [
        (
            label_cell(data, source),
            text(file.stage.partition(":")[0]),
            code(file.path),
            measure(None if file.size_bytes is None else file.size_bytes / _MB, 3),
            text(file.what),
            code(file.sha256[:_HASH]),
            number(file.seconds, ",.1f"),
        )
        for source, run in runs
        for file in run.files
    ]
    columns = ("run", "stage", "file", ">MB", "what", "sha256", ">seconds")
    tables = (make_table("Files of the run, each with its recorded hash", columns, rows),)
    return Section(name="deployed", title="What was deployed", tables=tables if runs else ())


def provenance_section(data: ReportData) -> Section:
    """Networks, weights, compilers and machines."""
    facts: list[tuple[Cell, Cell, Cell]] = []
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
        facts += [(label_cell(data, source), text(name), text(value)) for name, value in pairs]
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
        notes += [named(data, source, note) for note in dict.fromkeys(own)]
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
        (label_cell(data, source), text(missing.part), code(missing.command))
        for source in data.sources
        for missing in source.missing
    ]
    table = make_table("Not in this report", ("run", "what", "made by"), rows)
    return Section(name="missing", title="Missing", tables=(table,) if rows else ())
