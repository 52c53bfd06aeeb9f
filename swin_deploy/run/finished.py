"""A finished run: the one place where a run folder is opened, and what it says is typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.core.files import Recorded
from swin_deploy.core.records import load_json
from swin_deploy.data.classes import parse_class_names
from swin_deploy.data.images import FP32_INPUT, ImageInput, InputSet, make_noise_for
from swin_deploy.engine.open import open_engine, why_not_here
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.target import Target
from swin_deploy.network.catalogue import NetworkConfig, Variant
from swin_deploy.network.interface import BatchRange, Interface, Outputs, Precision, Preprocessing
from swin_deploy.run.details import (
    AS_EXPORTED,
    INT8_RECIPES,
    LABELS,
    MANIFEST,
    PLAIN,
    PRECISION_OF,
    SIMPLE,
    WEIGHTS,
    EngineDetails,
    ExportDetails,
    HalfDetails,
    Int8Details,
    VerifyDetails,
    graph_of,
)
from swin_deploy.run.manifest import Header, Manifest, StageRecord, is_manifest, parse_manifest
from swin_deploy.run.versions import recorded

_ABOVE = 2  # folders between a file of a run and the run
_BESIDE = (".json", ".log")  # what comes with an engine and is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine of a run.

    Attributes:
        stage: That made it.
        record: Of that stage.
        details: What it found out.
        target: The row that it was built for.
        precision: Of its graph.
    """

    stage: str
    record: StageRecord
    details: EngineDetails
    target: Target
    precision: Precision

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{self.target.name}-{self.precision}"

    @property
    def file(self) -> str:
        """Its path in the run; that of the file which is opened, if there are several."""
        return self.target.engine_name(self.precision)

    @property
    def graph(self) -> str:
        """The graph that it was made from."""
        return graph_of(self.target, self.precision)

    @property
    def listing(self) -> str | None:
        """Of its kernels, if the run has one."""
        name = self.target.listing_name(self.precision)
        return name if name in self.record.outputs else None

    @property
    def why_not_here(self) -> str | None:
        """Why this machine cannot run it; None if it can."""
        return why_not_here(self.target, self.details.flags)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was published. Needs no lock: whatever its manifest lists is there, whole.

    Attributes:
        path: The folder.
        manifest: What it says; every field of it was read as its type.
        engines: By name.
    """

    path: Path
    manifest: Manifest
    engines: dict[str, Engine]

    @property
    def header(self) -> Header:
        """What it is of."""
        return self.manifest.header

    @property
    def config(self) -> NetworkConfig:
        """Its network."""
        return self.header.variant

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its photos."""
        return self.header.preprocessing

    @property
    def variant(self) -> Variant:
        """Its network with its preprocessing."""
        return Variant(config=self.config, preprocessing=self.preprocessing)

    @property
    def batch(self) -> BatchRange:
        """That its graphs are for."""
        return self.header.batch

    @property
    def outputs(self) -> Outputs:
        """What the network gives."""
        return self.header.outputs

    @property
    def interface(self) -> Interface:
        """What the deployed graphs take and give."""
        return self.header.interface

    @property
    def random(self) -> bool:
        """Whether its weights are."""
        return self.header.weights.random

    @property
    def seed(self) -> int:
        """Of random weights."""
        return self.header.weights.seed or 0

    @property
    def weights(self) -> Recorded | None:
        """The file that it keeps them in; None for random ones."""
        return None if self.random else self.file(WEIGHTS)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes by index; empty where they are not known.

        Raises:
            UnsafeError: The file of them was changed.
        """
        if LABELS not in self.files:
            return ()
        return parse_class_names(self.file(LABELS).read(), self.path / LABELS)

    @property
    def export(self) -> ExportDetails:
        """What the export found out."""
        (found,) = self.manifest.details(ExportDetails).values()
        return found

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the deployed graphs, in order."""
        return self.interface.output_names(tuple(self.export.outputs))

    @property
    def floors_db(self) -> dict[str, float]:
        """Output -> what the run held its FP32 files to, on noise and photos."""
        return self._gate.fp32_floors_db

    @property
    def extreme_floors_db(self) -> dict[str, float]:
        """Likewise, on images that no camera takes."""
        return self._gate.fp32_extreme_floors_db

    @property
    def _gate(self) -> VerifyDetails:
        (gate,) = self.manifest.details(VerifyDetails).values()
        return gate

    def int8_of(self, target: Target) -> Int8Details:
        """How the INT8 graph for a target was made and judged."""
        stage = f"int8:{INT8_RECIPES[target.kind]}"
        found = self.manifest.details(Int8Details)
        if stage not in found:
            raise InputError(f"{self.path / MANIFEST} has no stage {stage}", "export again")
        return found[stage]

    def fp32_nodes(self, precision: Precision) -> tuple[str, ...]:
        """Names of nodes that stay in FP32 in a half-precision graph."""
        found = self.manifest.details(HalfDetails).get(precision)
        return () if found is None else tuple(found.fp32_nodes)

    @property
    def files(self) -> dict[str, str]:
        """Path in the run -> sha256 of everything that the manifest lists."""
        return self.manifest.outputs()

    def file(self, name: str) -> Recorded:
        """A file with its recorded hash, to be read.

        Raises:
            UnsafeError: The manifest does not list it.
        """
        if (expected := self.files.get(name)) is None:
            raise UnsafeError(
                f"{self.path / name} is not listed in {self.path / MANIFEST}", "export again"
            )
        return recorded(self.path, name, expected)

    def has(self, name: str) -> bool:
        """Whether a file that the manifest lists is there, whatever it is."""
        file = self.file(name)
        return any(path.exists() for path in (file.path, *file.also, file.path))

    def checked(self, name: str) -> Path:
        """Where a file lies whose bytes were just compared with its recorded hash."""
        return self.file(name).locate()

    @property
    def plain_graph(self) -> str:
        """FP32, simplified, as it was exported: image to logits or maps."""
        # Where the deployed graph has other ends, the graph that was simplified lies beside it.
        return PLAIN if PLAIN in self.files else SIMPLE

    def image_input(self, precision: Precision) -> ImageInput:
        """What the deployed graph of a precision takes."""
        return ImageInput.of(self.interface.io_of(precision), self.preprocessing)

    def input_of(self, graph: str) -> ImageInput:
        """What a graph takes, deployed or not."""
        return FP32_INPUT if graph in AS_EXPORTED else self.image_input(PRECISION_OF[graph])

    @property
    def images(self) -> ImageInput:
        """Images of this kind can be handed to every graph of the run."""
        return ImageInput.of(self.interface.io, self.preprocessing)

    def noise(self, count: int) -> InputSet:
        """So many seeded images for any graph of the run; as ``make_noise_for``."""
        return make_noise_for(self.images, count, self.config.in_channels, self.config.image_size)

    def engine_at(self, path: Path) -> Engine:
        """The engine that a path in the run leads to."""
        name = path.absolute().relative_to(self.path).as_posix()
        for engine in self.engines.values():
            if name in engine.record.outputs and path.suffix not in _BESIDE:
                return engine
        raise UnsafeError(
            f"{path} is not an engine that {self.path / MANIFEST} lists", "export again"
        )

    def open_engine(
        self, name: str, threads: int | None = None, before: Interface | None = None
    ) -> Runner | str:
        """The runner of an engine, or why this machine cannot run it.

        Args:
            name: Of the engine.
            threads: As ``engine.open.open_engine`` takes it.
            before: Likewise.
        """
        engine = self.engines[name]
        names = engine.target.engine_files(engine.precision)
        files = tuple(self.file(file) for file in names)
        for file in names:
            self.checked(file)  # even where nothing is loaded, before anything else is said of it
        if (reason := engine.why_not_here) is not None:
            return reason
        return open_engine(
            engine.target,
            engine.precision,
            files[0].path,
            threads,
            self.image_input(engine.precision),
            engine.details.built_for,
            before=before,
            recorded=files,
        )


def find_run(path: Path) -> Run | None:
    """The run that ``path`` is, or lies in; None if it belongs to none."""
    start = path.absolute()
    for folder in (start, *start.parents[:_ABOVE]):
        try:
            data = load_json(folder / MANIFEST, finite=False)
        except (InputError, OSError):  # of this name there are others: those of web pages
            continue
        if is_manifest(data):
            return _open(folder, data)
    return None


def require_run(path: Path) -> Run:
    """The run in the folder ``path``, or that it lies in; errors as of ``find_run``.

    Raises:
        InputError: There is none.
    """
    if (run := find_run(path)) is None:
        if (path / MANIFEST).exists():
            load_json(path / MANIFEST, "export again", finite=False)  # says what is wrong with it
            raise InputError(
                f"{path / MANIFEST} cannot be read as a manifest of this version", "export again"
            )
        raise InputError(f"{path} holds no finished run", "swin-deploy export")
    return run


def find_subject(path: Path, used: str, hint: str) -> Run | None:
    """The run that ``path`` is or lies in; None of an ONNX file from elsewhere. Opens nothing.

    Args:
        path: What a command was pointed at.
        used: What would become of an engine: "runs".
        hint: What to try in place of one that belongs to no run.

    Raises:
        InputError: There is nothing at ``path``, or a folder that is no run.
        UnsafeError: It is no ONNX file, has content, and belongs to no run.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "swin-deploy export --variant swin_t")
    run = require_run(path) if path.is_dir() else find_run(path)
    if run is None and path.suffix != ".onnx" and path.stat().st_size:
        raise UnsafeError(
            f"{path} is listed in no manifest; an engine is native code and {used} only if this "
            "tool recorded its hash",
            hint,
        )
    return run


def _open(folder: Path, data: dict[str, object]) -> Run:
    where = folder / MANIFEST
    manifest = parse_manifest(data, where)
    for needed in ("export", "verify"):
        if needed not in manifest.stages:
            raise InputError(f"{where} has no stage {needed}", "export again")
    return Run(folder, manifest, _engines(manifest, where))


def _engines(manifest: Manifest, where: Path) -> dict[str, Engine]:
    found = {}
    for stage, details in manifest.details(EngineDetails).items():
        engine = Engine(
            stage=stage,
            record=manifest.stages[stage],
            details=details,
            target=details.row,
            precision=details.precision,
        )
        if engine.file not in engine.record.outputs or stage != f"engine:{engine.name}":
            raise InputError(
                f"{where}: stages.{stage} is of {engine.name} and lists "
                f"{', '.join(engine.record.outputs) or 'nothing'}, not {engine.file}",
                "export again",
            )
        found[engine.name] = engine
    return found
