"""What a request needs of this machine, by a look; and what its targets decide, worked out once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, SwinDeployError, caught
from swin_deploy.core.files import require_outside
from swin_deploy.data.images import require_photos
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.samples import require_images
from swin_deploy.engine.build import require_installed
from swin_deploy.engine.here import describe_device
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.engine.target import Target, is_device
from swin_deploy.engine.targets import DEFAULT_TARGETS, TARGETS, find_target, find_targets
from swin_deploy.engine.timing_cache import default_folder
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.export_form import PRIORITY, FormName
from swin_deploy.network.interface import Precision
from swin_deploy.pipeline.request import ExportOptions

# Options of the command line whose name is not that of the field.
FLAGS = {"optimisation_level": "--opt-level", "workspace_bytes": "--workspace"}
_ELSEWHERE = "--out with a folder elsewhere"


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


def missing_inputs(
    options: ExportOptions, network: Variant | None = None, out: Path | None = None
) -> Iterator[SwinDeployError]:
    """What a look finds wrong with targets and images; no library of them is imported.

    Args:
        options: Of the run.
        network: Whose images they are; None where the weights have not told yet.
        out: The run folder; None where it has no name yet.
    """
    unknown = [e for name in options.targets or () for e in caught(_require_target, name)]
    yield from unknown
    if not unknown:
        yield from caught(make_plan, options)
    if options.images is not None:
        yield from caught(require_photos, options.images)
    int8 = options.int8
    if int8.calibration is not None:
        shape = None if network is None else network.input_shape
        yield from caught(require_images, int8.calibration, "calibration", shape)
    if int8.labelled is not None:
        yield from caught(require_labelled, int8.labelled)
    for folder in (options.images, int8.calibration):
        yield from caught(require_outside, out, folder, _ELSEWHERE, False)
    yield from caught(require_outside, out, int8.labelled, _ELSEWHERE)


def _require_target(name: str) -> None:
    target = find_target(name)
    if not built_elsewhere(target):
        require_installed(target)
