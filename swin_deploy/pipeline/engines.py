"""Which engines a run has, and what its targets decide for the graphs that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swin_deploy.config import ExportRequest
from swin_deploy.engine.build import build_engine, effective_options
from swin_deploy.engine.here import describe_device, is_device
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import DEFAULT_TARGETS, TARGETS, find_targets
from swin_deploy.engine.timing_cache import default_folder
from swin_deploy.errors import ConfigError, EnvironmentMissingError
from swin_deploy.export_form.choice import PRIORITY, FormName
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.int8 import int8_problems
from swin_deploy.precisions import Precision
from swin_deploy.run.names import INT8_RECIPES, graph_of
from swin_deploy.runners.cuda import device_problem

# Options of the command line whose name is not that of the field.
FLAGS = {"optimisation_level": "--opt-level", "workspace_bytes": "--workspace"}


def plan_engines(request: ExportRequest) -> list[tuple[Target, Precision]]:
    """The engines of a run, those that only their device can build too.

    Raises:
        ConfigError: A target is unknown, or has no engine in the precisions that were asked for.
    """
    targets = DEFAULT_TARGETS if request.targets is None else find_targets(request.targets)
    engines = []
    for target in targets:
        precisions = [p for p in request.precisions if p in target.precisions]
        if not precisions and request.targets is not None:
            raise ConfigError(
                f"target {target.name} has no engine in {', '.join(request.precisions)}",
                f"--precision {','.join(target.precisions)}",
            )
        engines += [(target, precision) for precision in precisions]
    _require_taken(request, [target for target, _ in engines])
    _require_gpu_for_refitting(request, [target for target, _ in engines])
    return engines


def _require_gpu_for_refitting(request: ExportRequest, targets: list[Target]) -> None:
    """TensorRT-RTX builds without a GPU, but not engines whose weights can be replaced."""
    rtx = [target.name for target in targets if target.module == "tensorrt_rtx"]
    if rtx and request.build.refits and (problem := device_problem()) is not None:
        raise EnvironmentMissingError(
            f"refittable and stripped engines of {rtx[0]} are compiled on a GPU alone: {problem}",
            "neither --refittable nor --strip-weights here",
        )


def _require_taken(request: ExportRequest, targets: list[Target]) -> None:
    names = dict.fromkeys(target.name for target in targets)
    given, folder = request.build.given(), request.build.timing_cache
    if folder not in (None, default_folder()):
        given["timing_cache"] = folder
    for option, value in given.items():
        if not any(option in target.options for target in targets):
            takers = [target.name for target in TARGETS.values() if option in target.options]
            flag = FLAGS.get(option, f"--{option.replace('_', '-')}")
            raise ConfigError(
                f"{flag} {value} is for {', '.join(takers)}; the targets are {', '.join(names)}",
                f"no {flag}, or one of the former with --target",
            )


def plan_form(request: ExportRequest) -> FormName:
    """The form of attention in the graph of a run.

    Targets count that are planned but not installed here: the same request gives the same graph on
    every machine, and the graph can go to one that has them.

    Raises:
        ConfigError: ``plan_engines`` would refuse the targets.
    """
    targets = (target for target, _ in plan_engines(request))
    decides = min(targets, key=lambda target: PRIORITY.index(target.kind))
    return decides.form(request.batch.static)


def plan_opset(request: ExportRequest) -> int:
    """The opset of the graph of a run: the lowest of its targets, installed here or not.

    Raises:
        ConfigError: ``plan_engines`` would refuse the targets.
    """
    return min(target.opset for target, _ in plan_engines(request))


def built_elsewhere(target: Target) -> bool:
    """Whether the engine is built on a device that this machine is not."""
    return target.one_device and not is_device(describe_device(), target)


def target_notes(request: ExportRequest) -> list[str]:
    """What the user has to know of the targets of a request.

    Raises:
        ConfigError: A target is unknown.
    """
    notes = []
    for target in () if request.targets is None else find_targets(request.targets):
        if built_elsewhere(target):
            notes.append(
                f"no engine for {target.name} is built here: that takes the device itself; to take "
                f"the graphs there: swin-deploy bundle {request.out} --target {target.name}"
            )
        if target.batch == "one" and request.batch.high > 1:
            notes.append(
                f"{target.name} mostly gets one image at once, and the batch is {request.batch}: "
                "its engine is fastest with --batch 1"
            )
        if target.batch == "many" and request.batch.high == 1:
            notes.append(
                f"{target.name} is mostly kept busy with many images at once, and the batch is 1: "
                "--batch 1:16, for example"
            )
    return notes


def engine_outputs(target: Target, precision: Precision) -> tuple[str, ...]:
    """Files of the run that the stage of an engine writes."""
    listing = target.listing_name(precision)
    more = [listing, target.log_name(precision)] if listing else []
    return (*target.engine_files(precision), *more)


def engine_spec(request: ExportRequest, target: Target) -> dict[str, Any]:
    """What an engine depends on beside its graph."""
    asked = effective_options(target, request.build)
    more = {"build": asked.as_spec()} if target.options else {}
    return {"batch": str(request.batch)} | more


def engine_action(target: Target, precision: Precision) -> Callable[[RunContext], dict[str, Any]]:
    """What the stage of an engine does."""

    def build(context: RunContext) -> dict[str, Any]:
        name = target.listing_name(precision)
        listing: Path | None = context.folder.scratch(name) if name else None
        # Of a build that fails it stays among what is unfinished, for whoever wants to know why.
        log = context.folder.resumable(Path(target.log_name(precision)).name)
        engine = build_engine(
            target,
            context.folder.file(graph_of(target, precision)),
            context.folder.scratch(target.engine_name(precision)),
            context.request.batch,
            log,
            listing,
            context.request.build,
            context.advanced,
        )
        if target.log_name(precision) in engine_outputs(target, precision):
            log.replace(context.folder.scratch(target.log_name(precision)))
        details = {"target": target.name, "precision": precision} | asdict(engine)
        if precision == "int8" and listing is not None and engine.kernels:
            quantised = context.folder.current.stages[f"int8:{INT8_RECIPES[target.kind]}"].details
            details["notes"] = [*engine.notes, *int8_problems(listing, quantised, engine)]
        return details

    return build
