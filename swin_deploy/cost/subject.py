"""What ``cost`` was pointed at: a run, an engine in one, or an ONNX file, compiled to find out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swin_deploy.batches import BatchRange
from swin_deploy.child import run_in_child
from swin_deploy.engine.build import TIMEOUT_S, require_installed
from swin_deploy.engine.listing import Listing, from_dict
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.tensorrt_build import build_quietly
from swin_deploy.errors import InputError, UnsafeError
from swin_deploy.records import parse_json
from swin_deploy.run.finished import Engine, Run, find_run, require_run
from swin_deploy.run.names import PRECISION_OF

if TYPE_CHECKING:
    from swin_deploy.engine.graph_facts import GraphFacts

COMPILER = TARGETS["rtx"]  # the one that needs no GPU
DYNAMIC = BatchRange(low=1, high=16)  # what an ONNX file with a dynamic batch is compiled for


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine whose kernels are known.

    Attributes:
        name: What tables call it.
        path: The engine, or the ONNX file that was compiled.
        compiler: Module and version.
        batch: That it was compiled for.
        listing: Its kernels.
        graph: What it was compiled from.
    """

    name: str
    path: Path
    compiler: str
    batch: BatchRange
    listing: Listing
    graph: GraphFacts


def open_subjects(path: Path, progress: Callable[[str], None]) -> list[Subject]:
    """The engines at ``path``, at least one. Nothing is left on the disk.

    Args:
        path: A run folder, an engine in one, or an ONNX file.
        progress: Hears what takes long.

    Raises:
        InputError: Nothing there has kernels to list.
        UnsafeError: A file of a run is not the one that was recorded, or an engine lies in none.
        EnvironmentMissingError: The compiler for an ONNX file is not installed.
        ResourceError: It gave up.
    """
    run = look_at(path)
    if run is None:
        return [_compile(path, path, progress)]
    if path.is_dir():
        return _of_run(run)
    name = path.absolute().relative_to(run.path).as_posix()
    if name in run.files and path.suffix == ".onnx" and name in PRECISION_OF:
        with tempfile.TemporaryDirectory(prefix="swin-deploy-cost.") as folder:
            return [_compile(run.file(name).copy_to(Path(folder)), path, progress)]
    engine = run.engine_at(path)
    if engine.target.listing_name(engine.precision) is None:
        raise InputError(
            f"{path} is an engine of {engine.target.module}, which lists no kernels",
            f"swin-deploy cost {run.path / engine.graph}",
        )
    return [_from_run(run, engine)]


def look_at(path: Path) -> Run | None:
    """The run that ``path`` is or lies in; None of an ONNX file from elsewhere. Opens nothing.

    Raises:
        InputError: There is nothing at ``path``, or an empty folder.
        UnsafeError: It is no ONNX file, and belongs to no run.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "swin-deploy export --variant swin_t")
    run = require_run(path) if path.is_dir() else find_run(path)
    if run is None and path.is_file() and path.suffix != ".onnx" and path.stat().st_size:
        raise UnsafeError(
            f"{path} is listed in no manifest; an engine is native code and is read only if this "
            "tool recorded its hash",
            "export again on this machine, or cost with the ONNX file",
        )
    return run


def _of_run(run: Run) -> list[Subject]:
    subjects = [
        _from_run(run, engine)
        for engine in run.engines.values()
        if engine.target.listing_name(engine.precision)
    ]
    if not subjects:
        raise InputError(
            f"{run.path} has no engine whose runtime lists its kernels",
            "swin-deploy export --target rtx, or cost with one of its ONNX files",
        )
    return subjects


def _from_run(run: Run, engine: Engine) -> Subject:
    from swin_deploy.engine.graph_facts import read_graph

    if engine.listing is None:
        raise InputError(
            f"{run.path} was exported by a version that kept no listing of kernels", "export again"
        )
    listing, details = run.file(engine.listing), engine.details
    run.checked(engine.file)  # it is not opened
    with tempfile.TemporaryDirectory(prefix="swin-deploy-cost.") as folder:
        graph = read_graph(run.file(engine.graph).copy_to(Path(folder)))
    return Subject(
        name=f"{run.config.name} {engine.name}",
        path=run.path / engine.file,
        compiler=f"{details.module} {details.version}",
        batch=run.batch,
        listing=from_dict(parse_json(listing.read(), listing.path), str(listing.path)),
        graph=graph,
    )


def _compile(path: Path, shown: Path, progress: Callable[[str], None]) -> Subject:
    from swin_deploy.engine.graph_facts import profile_of, read_graph

    progress(f"reading {shown.name}")
    graph = read_graph(path)
    batch = profile_of(path, DYNAMIC)
    require_installed(COMPILER)
    progress(f"compiling {shown.name} with {COMPILER.module}")
    with tempfile.TemporaryDirectory(prefix="swin-deploy-cost.") as folder:
        log, plan = Path(folder) / "log", Path(folder) / "plan"
        listing, version = run_in_child(
            build_quietly, log, TIMEOUT_S, COMPILER.module, path.absolute(), plan, batch
        )
    return Subject(shown.name, shown, f"{COMPILER.module} {version}", batch, listing, graph)
