"""A fine-tuned checkpoint into an engine that is there already, as a run of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError, present
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.here import fingerprint_here, require_match
from swin_deploy.engine.open import refit_plan, why_not_here
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.source import Source, with_hints
from swin_deploy.network.swin import Semantics
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.request import ExportRequest, Listener
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.pipeline.stages import Stage
from swin_deploy.run.finished import Engine, Run, require_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Refittable:
    """An engine of a finished run whose weights can be replaced; its hash was compared."""

    run: Run
    engine: Engine

    @property
    def load(self) -> LoadOptions:
        """How its checkpoints are read: they have to be of this network, at its size, by its rules.

        Of whatever size they were trained for: an engine takes images of its own alone.
        """
        config, rules = self.run.config, tuple(field.name for field in fields(Semantics))
        return LoadOptions(image_size=config.image_size, wanted=config, rules=rules)

    def require_same_ends(self, source: Source) -> None:
        """Check that what is said beside new weights is what the engine does."""
        steps, task = source.preprocessing, source.facts.task
        said = {} if steps is None else {f"preprocessing.{k}": v for k, v in asdict(steps).items()}
        said |= {} if task is None else {"task": task}
        own = {f"preprocessing.{k}": v for k, v in asdict(self.run.preprocessing).items()}
        own["task"] = self.run.interface.task
        if other := [f"{k} {v}, not {own[k]}" for k, v in said.items() if v != own[k]]:
            raise InputError(
                f"{source.path} comes with {'; '.join(other)} as {self.run.path} has it, and "
                "refitting changes weights alone",
                "swin-deploy export with these weights",
            )


def find_refittable(path: Path) -> Refittable:
    """The engine at ``path``, if new weights can go into it on this machine."""
    run = require_run(path if path.is_dir() else path.parent.parent)
    engine = run.engine_at(path)
    if path.suffix != ".plan":
        raise ConfigError(
            f"{path} is no plan of TensorRT, and new weights go into those alone",
            f"swin-deploy export --target {engine.target.name} --weights NEW: that takes "
            "seconds, too",
        )
    if engine.precision == "int8":
        raise ConfigError(
            f"{path} is INT8: the scales in its graph come from calibrating the old weights, and "
            "would be wrong for new ones",
            "swin-deploy export --precision int8 --calibration PHOTOS with the new weights",
        )
    if "REFIT" not in engine.details.flags:
        raise ConfigError(
            f"{path} was not built refittable: its compiler folded the weights into its kernels",
            f"swin-deploy export --target {engine.target.name} --refittable, once",
        )
    plan = run.checked(engine.file)
    if (problem := why_not_here(engine.target)) is not None:
        raise EnvironmentMissingError(
            f"{path} cannot be refitted here: {problem}", "the machine that runs it"
        )
    here = fingerprint_here(engine.target.module, engine.target.distribution)
    require_match(engine.details.built_for, here, plan)
    return Refittable(run=run, engine=engine)


def refit_engine(engine: Refittable, request: ExportRequest, listener: Listener) -> RunResult:
    """Put the weights of a request into an engine, verify it, and publish it as a new run.

    Args:
        engine: Stays as it is.
        request: From ``refit_request``.
        listener: Hears what is being done.
    """
    return run_export(request, listener, lambda stages: [_adapt(s, engine) for s in stages])


def refit_request(
    engine: Refittable, source: Source, out: Path | None, images: Path | None
) -> ExportRequest:
    """The run that makes the engine's graph with other weights.

    Args:
        engine: From ``find_refittable``.
        source: A checkpoint of the same network.
        out: Of the new run; None for a folder beside the old one.
        images: Photos to verify on.
    """
    run, built = engine.run, engine.engine
    folder = out or run.path.with_name(f"{run.path.name}-{source.path.stem}")
    if folder.absolute() == run.path:
        raise ConfigError(f"{folder} holds the engine that is to be refitted", "another --out")
    engine.require_same_ends(source)
    return ExportRequest(
        variant=run.variant,
        out=folder,
        weights=source.path,
        load=with_hints(engine.load, source),
        provenance=source.provenance,
        labels=source.facts.labels,
        batch=run.batch,
        outputs=run.outputs,
        interface=run.interface,
        precisions=(built.precision,),
        fp32_nodes=run.fp32_nodes(built.precision),
        targets=(built.target.name,),
        images=images,
    )


def _adapt(stage: Stage, engine: Refittable) -> Stage:
    """Refit where the plan of a run would compile."""
    built = engine.engine
    if stage.name != built.stage:
        return stage
    old = built.record.outputs[built.file]
    return replace(
        stage,
        title=f"refitting {built.precision} for {built.target.name}",
        spec={"refitted_from": old},
        action=_refit_action(engine, old),
    )


def _refit_action(engine: Refittable, old: str) -> Callable[[RunContext], dict[str, Any]]:
    run, built = engine.run, engine.engine
    target, precision, details = built.target, built.precision, built.record.details

    def refit(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.structure import require_same_network

        folder, name = context.folder, built.graph
        require_same_network(run.checked(name), folder.file(name))
        version, made = run_in_child(
            refit_plan,
            folder.scratch(target.log_name(precision)),
            TIMEOUT_S,
            target.module,
            run.file(built.file),
            folder.file(name),
            folder.scratch(built.file),
        )
        listing = present(target.listing_name(precision))  # of every plan
        folder.scratch(listing).write_bytes(run.file(listing).read())
        flags = [flag for flag in built.details.flags if flag != "STRIP_PLAN"]
        settings = built.details.settings | {"flags": flags}
        changed = {"version": version, "settings": settings, "written": asdict(made)}
        return details | changed | {"refitted_from": old}

    return refit
