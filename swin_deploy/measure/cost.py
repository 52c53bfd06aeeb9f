"""What the kernels of engines cost: of a run, of an engine in one, or of an ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.core.errors import ConfigError, InputError, caught, raise_all
from swin_deploy.core.process import run_in_child
from swin_deploy.core.records import parse_json
from swin_deploy.engine.build import TIMEOUT_S, require_installed
from swin_deploy.engine.cost.gpus import Gpu, find_gpu
from swin_deploy.engine.cost.kernels import (
    Cost,
    KernelCost,
    Sums,
    cost_listing,
    diff_listings,
    kernel_lines,
)
from swin_deploy.engine.cost.listing import Listing, from_dict
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.tensorrt import build_quietly
from swin_deploy.network.interface import BatchRange
from swin_deploy.run.details import PRECISION_OF
from swin_deploy.run.finished import Engine, Run, find_subject

if TYPE_CHECKING:
    from swin_deploy.engine.cost.graph_facts import GraphFacts


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
    """The run of a subject of ``cost``; as ``find_subject``."""
    return find_subject(path, "is read", "export again on this machine, or cost with the ONNX file")


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
    from swin_deploy.engine.cost.graph_facts import read_graph

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
    from swin_deploy.engine.cost.graph_facts import profile_of, read_graph

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


SCHEMA_VERSION = 1
_FIGURES = ("kernels", "activation_bytes", "weight_bytes", "flops", "estimate_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRequest:
    """What to take apart; fields are the options of ``cost``."""

    path: Path
    compare: Path | None = None
    gpu: str | None = None


def report_cost(request: CostRequest, progress: Callable[[str], None]) -> dict[str, Any]:
    """What the compiler made of each engine, per kernel, purpose and block.

    Returns:
        The JSON object of ``cost --json``. Sizes are in bytes, times in seconds, both null where
        the batch is dynamic.
    """
    looks = [caught(look_at, path) for path in (request.path, request.compare) if path is not None]
    looks += [] if request.gpu is None else [caught(find_gpu, request.gpu)]
    raise_all(chain(*looks))
    gpu = None if request.gpu is None else find_gpu(request.gpu)
    engines = [(s, _cost(s, gpu)) for s in open_subjects(request.path, progress)]
    report = {
        "schema_version": SCHEMA_VERSION,
        "gpu": None if gpu is None else asdict(gpu),
        "engines": [describe_cost(subject, cost) for subject, cost in engines],
        "comparisons": [],
    }
    if request.compare is not None:
        others = [(s, _cost(s, gpu)) for s in open_subjects(request.compare, progress)]
        if len(engines) > 1 or len(others) > 1:
            raise ConfigError(
                f"{request.path} has {len(engines)} engines and {request.compare} {len(others)}",
                "one engine of each, as engines/rtx-fp16.plan",
            )
        report["comparisons"] = [_compare(*engines[0], *others[0])]
    return report


def _cost(subject: Subject, gpu: Gpu | None) -> Cost:
    try:
        return cost_listing(subject.listing, subject.graph, gpu)
    except InputError as error:
        raise InputError(f"{subject.path}: {error.problem}", error.hint) from error


def describe_cost(subject: Subject, cost: Cost) -> dict[str, Any]:
    """An engine as a JSON object."""
    blocks: dict[str, dict[str, Any]] = {}
    for (block, purpose), sums in cost.by_block().items():
        blocks.setdefault(block or f"({purpose})", {})[purpose] = _sums(sums)
    warnings = []
    if cost.unattributed:
        names = ", ".join(cost.unattributed[:3])
        warnings.append(
            f"{len(cost.unattributed)} matrix products of the graph are named by no kernel and "
            f"lack in the FLOPs: {names}"
        )
    if cost.unplaced:
        warnings.append("no blocks are recognised in the names of this graph's nodes")
    return {
        "name": subject.name,
        "path": str(subject.path),
        "compiler": subject.compiler,
        "batch": {"low": subject.batch.low, "high": subject.batch.high},
        "attentions": cost.attentions,
        "fused_attentions": cost.fused_attentions,
        "totals": _sums(cost.totals),
        "purposes": {name: _sums(sums) for name, sums in cost.by_purpose().items()},
        "blocks": blocks,
        "kernels": [_kernel(kernel) for kernel in cost.kernels],
        "unattributed": list(cost.unattributed),
        "warnings": warnings,
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return asdict(sums) | {"flops_per_byte": sums.intensity}


def _kernel(cost: KernelCost) -> dict[str, Any]:
    kernel = cost.kernel
    return {
        "name": kernel.name,
        "kind": kernel.kind,
        "dtype": kernel.dtype,
        "purpose": cost.placement.purpose,
        "block": cost.placement.block,
        "permutes": cost.placement.permutes,
        "fused_attention": kernel.fused_attention,
        "activation_bytes": kernel.activation_bytes,
        "weight_bytes": kernel.constant_bytes,
        "flops": cost.flops,
        "estimate_s": cost.estimate_s,
        "bound": cost.bound,
        "onnx_nodes": list(kernel.onnx_nodes),
    }


def _compare(subject: Subject, cost: Cost, other: Subject, reference: Cost) -> dict[str, Any]:
    ours, theirs = cost.by_purpose(), reference.by_purpose()
    nothing = Sums(0, 0, 0, 0, 0.0)
    names = list(dict.fromkeys([*ours, *theirs]))
    return {
        "engine": subject.name,
        "other": describe_cost(other, reference),
        "difference": {
            "fused_attentions": cost.fused_attentions - reference.fused_attentions,
            "totals": _difference(cost.totals, reference.totals),
            "purposes": {
                name: _difference(ours.get(name, nothing), theirs.get(name, nothing))
                for name in names
            },
        },
        "kernel_diff": diff_listings(kernel_lines(reference), kernel_lines(cost)),
    }


def _difference(ours: Sums, theirs: Sums) -> dict[str, Any]:
    """Ours less theirs; None where either is not known."""
    pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in _FIGURES}
    return {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}
