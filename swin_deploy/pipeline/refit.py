"""A fine-tuned checkpoint into an engine that is there already, as a run of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from swin_deploy.architecture import Semantics
from swin_deploy.artifacts.manifest import MANIFEST, StageRecord
from swin_deploy.artifacts.reader import FinishedRun, require_run
from swin_deploy.batches import BatchRange
from swin_deploy.child import run_in_child
from swin_deploy.config import ExportRequest, LoadOptions
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.fingerprint import fingerprint_here, read_fingerprint, require_match
from swin_deploy.engine.open import why_not_here
from swin_deploy.engine.refit import refit_plan
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.errors import ConfigError, EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.interface import Interface
from swin_deploy.networks import config_of
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.engines import graph_of
from swin_deploy.pipeline.run import Listener, RunResult, run_export
from swin_deploy.pipeline.stages import Stage
from swin_deploy.precisions import Precision
from swin_deploy.preprocessing import Preprocessing
from swin_deploy.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Refittable:
    """An engine of a finished run whose weights can be replaced.

    Attributes:
        run: The run.
        record: Of the engine's stage.
        target: Its row.
        precision: Of its graph.
        plan: The file; its hash was compared.
        variant: The network, with its preprocessing.
    """

    run: FinishedRun
    record: StageRecord
    target: Target
    precision: Precision
    plan: Path
    variant: Variant

    @property
    def load(self) -> LoadOptions:
        """How its checkpoints are read: they have to be of this network, with its rules."""
        rules = tuple(field.name for field in fields(Semantics))
        return LoadOptions(wanted=self.variant.config, rules=rules)


def find_refittable(path: Path) -> Refittable:
    """The engine at ``path``, if new weights can go into it on this machine.

    Raises:
        InputError: There is no run with it.
        UnsafeError: It is not the file that the run recorded.
        ConfigError: It was not built for that, or is an INT8 engine.
        EnvironmentMissingError: This machine cannot load it.
    """
    run = require_run(path if path.is_dir() else path.parent.parent)
    name = str(path.absolute().relative_to(run.path))
    found = [
        (stage, record)
        for stage, record in run.manifest.stages.items()
        if stage.startswith("engine:") and name in record.outputs
    ]
    if not found or path.suffix in (".json", ".log"):  # what an engine comes with
        raise UnsafeError(
            f"{path} is not an engine that {run.path / MANIFEST} lists", "export again"
        )
    (_, record), *_ = found
    if path.suffix != ".plan":
        raise ConfigError(
            f"{path} is no plan of TensorRT, and new weights go into those alone",
            f"swin-deploy export --target {record.details['target']} --weights NEW: that takes "
            "seconds, too",
        )
    target, precision = TARGETS[record.details["target"]], record.details["precision"]
    if precision == "int8":
        raise ConfigError(
            f"{path} is INT8: the scales in its graph come from calibrating the old weights, and "
            "would be wrong for new ones",
            "swin-deploy export --precision int8 --calibration PHOTOS with the new weights",
        )
    if "REFIT" not in record.details.get("settings", {}).get("flags", ()):
        raise ConfigError(
            f"{path} was not built refittable: its compiler folded the weights into its kernels",
            f"swin-deploy export --target {target.name} --refittable, once",
        )
    plan = run.checked(name)
    if (problem := why_not_here(target)) is not None:
        raise EnvironmentMissingError(
            f"{path} cannot be refitted here: {problem}", "the machine that runs it"
        )
    here = fingerprint_here(target.module, target.distribution)
    require_match(read_fingerprint(record.details, plan), here, plan)
    return Refittable(
        run=run,
        record=record,
        target=target,
        precision=precision,
        plan=plan,
        variant=_variant(run),
    )


def refit_engine(
    engine: Refittable,
    request: ExportRequest,
    listener: Listener,
) -> RunResult:
    """Put the weights of a request into an engine, verify it, and publish it as a new run.

    Args:
        engine: Stays as it is.
        request: From ``refit_request``.
        listener: Hears what is being done.

    Raises:
        InputError: The weights make another graph than that of the engine.
        VerificationError: The refitted engine disagrees with eager PyTorch.
        SwinDeployError: As ``run_export``.
    """
    return run_export(request, listener, lambda stages: [_adapt(s, engine) for s in stages])


def refit_request(
    engine: Refittable, weights: Path, out: Path | None, images: Path | None, **more: Any
) -> ExportRequest:
    """The run that makes the engine's graph with other weights.

    Args:
        engine: From ``find_refittable``.
        weights: A checkpoint of the same network.
        out: Of the new run; None for a folder beside the old one.
        images: Photos to verify on.
        **more: Of ``ExportRequest``: where the weights come from.

    Raises:
        ConfigError: The new run would lie over the old one.
    """
    header, stages = engine.run.manifest.header, engine.run.manifest.stages
    folder = out or engine.run.path.with_name(f"{engine.run.path.name}-{weights.stem}")
    if folder.absolute() == engine.run.path:
        raise ConfigError(f"{folder} holds the engine that is to be refitted", "another --out")
    kept = stages[engine.precision].details["fp32_nodes"] if engine.precision in stages else ()
    return ExportRequest(
        variant=engine.variant,
        out=folder,
        weights=weights,
        load=engine.load,
        batch=BatchRange(**header["batch"]),
        outputs=header["outputs"],
        interface=Interface(**header["interface"]),
        precisions=(engine.precision,),
        fp32_nodes=tuple(kept),
        targets=(engine.target.name,),
        images=images,
        **more,
    )


def _variant(run: FinishedRun) -> Variant:
    header = run.manifest.header
    steps: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["preprocessing"].items()
    }
    try:
        config = config_of(header["family"], header["variant"])
        return Variant(config=config, preprocessing=Preprocessing(**steps))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path / MANIFEST} does not describe a network: {error!r}", "export again"
        ) from error


def _adapt(stage: Stage, engine: Refittable) -> Stage:
    """Refit where the plan of a run would compile."""
    if stage.name != f"engine:{engine.target.name}-{engine.precision}":
        return stage
    old = engine.record.outputs[engine.target.engine_name(engine.precision)]
    return replace(
        stage,
        title=f"refitting {engine.precision} for {engine.target.name}",
        spec={"refitted_from": old},
        action=_refit_action(engine, old),
    )


def _refit_action(engine: Refittable, old: str) -> Callable[[RunContext], dict[str, Any]]:
    target, precision, details = engine.target, engine.precision, engine.record.details

    def refit(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.same import require_same_network

        folder, name = context.folder, graph_of(target, precision)
        require_same_network(engine.run.checked(name), folder.file(name))
        version, made = run_in_child(
            refit_plan,
            folder.scratch(target.log_name(precision)),
            TIMEOUT_S,
            target.module,
            engine.plan,
            folder.file(name),
            folder.scratch(target.engine_name(precision)),
        )
        listing = target.listing_name(precision)
        assert listing is not None  # of every plan
        shutil.copy(engine.run.checked(listing), folder.scratch(listing))
        flags = [flag for flag in details["settings"]["flags"] if flag != "STRIP_PLAN"]
        settings = details["settings"] | {"flags": flags}
        changed = {"version": version, "settings": settings, "written": asdict(made)}
        return details | changed | {"refitted_from": old}

    return refit
