"""One call from paths to the object that ``cost --json`` prints, and tables are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from swin_deploy.cost.subject import Subject, look_at, open_subjects
from swin_deploy.engine.cost import (
    Cost,
    KernelCost,
    Sums,
    cost_listing,
    diff_listings,
    kernel_lines,
)
from swin_deploy.engine.gpus import Gpu, find_gpu
from swin_deploy.errors import ConfigError, InputError, caught, raise_all

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

    Raises:
        ConfigError: The GPU is not in the table, or the two sides have no engine in common.
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
