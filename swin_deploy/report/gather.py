"""Run folders and JSON files of other machines -> one object that has all that a page says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import swin_deploy
from swin_deploy.core.errors import ConfigError, InputError, caught, raise_all
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.records import decode, load_json, require_version
from swin_deploy.engine.here import Machine
from swin_deploy.measure.bench.report import BenchReport
from swin_deploy.measure.evaluate.report import EvaluateReport
from swin_deploy.measure.scaling.report import ScalingReport
from swin_deploy.measure.sensitivity.report import SensitivityReport
from swin_deploy.measure.verify.comparison import VerifyReport
from swin_deploy.measure.verify.report import ChecksReport
from swin_deploy.report.cost_tables import EngineCost, read_costs
from swin_deploy.report.deployment import Deployment, as_text, read_deployment, shell
from swin_deploy.run.finished import Run, require_run

S = TypeVar("S")
T = TypeVar("T")
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A file that a report reads, by its name in a run folder.

    Attributes:
        schemas: Its versions that are read alike; another one is refused.
        keys: That tell it from the others.
        command: Makes it of a run.
        wanted: What a report lacks without it; "" where few have it.
        part: Of the content, that may be empty; nothing is lacking where it has rows.
    """

    name: str
    schemas: tuple[int, ...]
    keys: tuple[str, ...]
    content: type[Any]
    command: str
    wanted: str = ""
    part: str = ""

    def lacks(self, content: object | None) -> bool:
        """Whether a content has not what is wanted of it; None is no file."""
        return content is None or (bool(self.part) and not getattr(content, self.part))


KINDS = (
    Kind(
        *("verify.json", (2, 3), ("comparisons", "reference"), VerifyReport),
        "swin-deploy export --out {run}",
    ),
    Kind(
        *("bench.json", (3, 4), ("measurements", "rounds"), BenchReport),
        *("swin-deploy bench --engine {run}", "latency and throughput"),
    ),
    Kind(
        *("evaluate.json", (1,), ("artifacts", "pairs"), EvaluateReport),
        *("swin-deploy evaluate {run} --data PHOTOS", "accuracy on labelled photos"),
    ),
    Kind(
        *("checks.json", (1, 2), ("bisections",), ChecksReport),
        *("swin-deploy verify {run} --bisect", "error along the depth", "bisections"),
    ),
    Kind(
        "scaling.json", (1,), ("points", "fits"), ScalingReport, "swin-deploy scaling --out {run}"
    ),
    Kind(
        *("sensitivity.json", (1,), ("places", "mixed"), SensitivityReport),
        "swin-deploy sensitivity {run} --calibration PHOTOS",
    ),
)
_FIELDS = {kind.name: kind.name.removesuffix(".json") for kind in KINDS}  # of Source


def read_content(path: Path, kind: Kind) -> Any:
    """The content of a file that should be of that kind, and of a version that is read."""
    again = kind.command.format(run="RUN")
    found = _read(path, again)
    require_version(found, kind.schemas, path, f"{again}, with the same version")
    return decode(kind.content, found, path, again, newer=True)


def recognise(path: Path) -> Kind:
    """Which kind a JSON file is of, told by its keys."""
    hint = ", ".join(kind.name for kind in KINDS) + " of any machine, or a run folder"
    found = _read(path, hint)
    for kind in KINDS:
        if all(key in found for key in kind.keys):
            return kind
    raise InputError(f"{path} is no report of swin-deploy", hint)


def _read(path: Path, hint: str) -> dict[str, Any]:
    require_plain_file(path, "a report in JSON")
    return load_json(path, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a report could say and cannot, and the command that makes it."""

    part: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One run, or one file of another machine, which has no deployment.

    ``label`` is what tables and plots call it; parts are called as their files are.
    """

    label: str
    path: str
    deployment: Deployment | None = None
    verify: VerifyReport | None = None
    bench: BenchReport | None = None
    evaluate: EvaluateReport | None = None
    checks: ChecksReport | None = None
    scaling: ScalingReport | None = None
    sensitivity: SensitivityReport | None = None
    costs: tuple[EngineCost, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def network(self) -> str:
        """Its name; "" where no file says."""
        named = self.deployment or self.bench or self.checks or self.sensitivity
        return "" if named is None else named.network

    @property
    def random(self) -> bool:
        """Whether its weights are known to be random: it predicts nothing."""
        return self.deployment is not None and self.deployment.random

    @property
    def machine(self) -> Machine | None:
        """Where the first of its measurements that says so was taken."""
        work = None if self.evaluate is None else self.evaluate.work
        parts = (self.bench, self.checks, self.scaling, work)
        return next((part.machine for part in parts if part is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All that a report says; ``as_dict`` is ``report.json``."""

    sources: tuple[Source, ...]

    def having(self, part: Callable[[Source], T | None]) -> Iterator[tuple[Source, T]]:
        """The sources that have a part, with it."""
        for source in self.sources:
            if (found := part(source)) is not None:
                yield source, found

    def label(self, source: Source) -> str:
        """Which source it is, where there are several."""
        return source.label if len(self.sources) > 1 else ""

    def named(self, source: Source, name: str) -> str:
        """A name in a figure: with its source, where there are several."""
        return f"{source.label}, {name}" if len(self.sources) > 1 else name

    def rows(
        self, part: Callable[[Source], S | None], of: Callable[[S], Iterable[T]]
    ) -> list[tuple[str, T]]:
        """What all sources have of a part, each behind the label of its source."""
        return [
            (self.label(source), row) for source, found in self.having(part) for row in of(found)
        ]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "swin-deploy", "version": swin_deploy.__version__},
            **asdict(self),
        }


def gather(paths: Sequence[Path], progress: Callable[[str], None]) -> ReportData:
    """Read run folders, and JSON files that this tool wrote on any machine.

    A file that a run's manifest lists and that is not the one that was recorded is refused.
    """
    twice = [path for path, count in Counter(p.absolute() for p in paths).items() if count > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice", "each of them once")
    raise_all(
        error for path in paths if not _is_file(path) for error in caught(require_run_folder, path)
    )
    sources = []
    for path, label in zip(paths, _labels(paths), strict=True):
        progress(f"reading {path}")
        if _is_file(path):
            kind = recognise(path)
            found = {_FIELDS[kind.name]: read_content(path, kind)}
            sources.append(Source(label=label, path=as_text(path), **found))
        else:
            sources.append(_read_run(require_run_folder(path), path, label))
    return ReportData(sources=tuple(sources))


def _is_file(path: Path) -> bool:
    return path.suffix == ".json" and not path.is_dir()


def require_run_folder(path: Path) -> Run:
    """The run at ``path``."""
    if not path.is_dir():
        problem = "is no folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {problem}", "a run folder, or a .json file of one")
    return require_run(path)


def _read_run(run: Run, path: Path, label: str) -> Source:
    # The folder as it was named; a path to something inside leads there, too.
    deployment = read_deployment(run, path if path.absolute() == run.path else run.path)
    listed = run.files
    gone = [name for name in listed if not run.has(name)]
    for name in listed:
        if name not in gone:
            run.checked(name)  # of the export; what came later is not listed, and may change
    missing = [
        Missing(part=f"{name}, which the manifest lists", command=deployment.command)
        for name in gone
    ]
    found: dict[str, Any] = {}
    for kind in KINDS:
        file = run.path / kind.name
        if file.exists():
            found[_FIELDS[kind.name]] = read_content(file, kind)
        if kind.wanted and kind.lacks(found.get(_FIELDS[kind.name])):
            command = kind.command.format(run=shell(path))
            missing.append(Missing(part=kind.wanted, command=command))
    costs, problem = read_costs(run, gone)
    if problem:
        command = f"{deployment.command} --target rtx"
        missing.append(Missing(part=f"kernels and bytes: {problem}", command=command))
    return Source(
        label=label,
        path=as_text(path),
        deployment=deployment,
        costs=costs,
        missing=tuple(missing),
        **found,
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """Short names that differ: a folder's, or a file's if it is its own; else the whole path."""
    usual = {kind.name for kind in KINDS}
    whole = [path.absolute() for path in paths]
    short = [as_text(path.parent.name if path.name in usual else path.stem) for path in whole]
    counts = Counter(short)
    return [
        name if name and counts[name] == 1 else as_text(path)
        for name, path in zip(short, paths, strict=True)
    ]
