"""The engines of a run: from which graph each is made, by which stage, and what to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swin_deploy.engine.build import build_engine, effective_options
from swin_deploy.engine.target import Target
from swin_deploy.network.interface import Precision
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.conversions import int8_problems
from swin_deploy.pipeline.plan import Plan, built_elsewhere
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.details import INT8_RECIPES, graph_of


def target_notes(request: ExportRequest, plan: Plan) -> list[str]:
    """What the user has to know of the targets that a request names."""
    notes = []
    for target in () if request.targets is None else plan.targets:
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
