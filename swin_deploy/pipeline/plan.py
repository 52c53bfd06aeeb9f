"""What the targets of a request decide for a run, worked out once and handed on."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.engine.here import describe_device, is_device
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import DEFAULT_TARGETS, TARGETS, find_targets
from swin_deploy.engine.timing_cache import default_folder
from swin_deploy.errors import ConfigError, EnvironmentMissingError
from swin_deploy.export_form.choice import PRIORITY, FormName
from swin_deploy.pipeline.request import ExportOptions
from swin_deploy.precisions import Precision
from swin_deploy.runners.cuda import device_problem

# Options of the command line whose name is not that of the field.
FLAGS = {"optimisation_level": "--opt-level", "workspace_bytes": "--workspace"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will have.

    Targets count that are not installed here: the same request gives the same graph on every
    machine, and the graph can go to one that has them.

    Attributes:
        engines: All of the run, those that only their device can build too.
        form: Of attention in the graph.
        opset: Of the graph: the lowest of the targets.
    """

    engines: tuple[tuple[Target, Precision], ...]
    form: FormName
    opset: int

    @property
    def targets(self) -> tuple[Target, ...]:
        """Those that get an engine."""
        return tuple(dict.fromkeys(target for target, _ in self.engines))

    @property
    def built_here(self) -> tuple[tuple[Target, Precision], ...]:
        """The engines that this machine can build, if their compilers are installed."""
        return tuple(engine for engine in self.engines if not built_elsewhere(engine[0]))


def make_plan(request: ExportOptions) -> Plan:
    """What the targets of a request decide.

    Raises:
        ConfigError: A target is unknown, or has no engine in the precisions that were asked for.
        EnvironmentMissingError: Engines are to be refittable that only a GPU can make so.
    """
    named = DEFAULT_TARGETS if request.targets is None else find_targets(request.targets)
    engines = []
    for target in named:
        precisions = [p for p in request.precisions if p in target.precisions]
        if not precisions and request.targets is not None:
            raise ConfigError(
                f"target {target.name} has no engine in {', '.join(request.precisions)}",
                f"--precision {','.join(target.precisions)}",
            )
        engines += [(target, precision) for precision in precisions]
    targets = [target for target, _ in engines]
    _require_taken(request, targets)
    _require_gpu_for_refitting(request, targets)
    decides = min(targets, key=lambda target: PRIORITY.index(target.kind))
    return Plan(
        engines=tuple(engines),
        form=decides.form(request.batch.static),
        opset=min(target.opset for target in targets),
    )


def built_elsewhere(target: Target) -> bool:
    """Whether the engine is built on a device that this machine is not."""
    return target.one_device and not is_device(describe_device(), target)


def _require_gpu_for_refitting(request: ExportOptions, targets: list[Target]) -> None:
    """TensorRT-RTX builds without a GPU, but not engines whose weights can be replaced."""
    rtx = [target.name for target in targets if target.module == "tensorrt_rtx"]
    if rtx and request.build.refits and (problem := device_problem()) is not None:
        raise EnvironmentMissingError(
            f"refittable and stripped engines of {rtx[0]} are compiled on a GPU alone: {problem}",
            "neither --refittable nor --strip-weights here",
        )


def _require_taken(request: ExportOptions, targets: list[Target]) -> None:
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
