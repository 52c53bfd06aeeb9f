"""ONNX file -> engine file, for one target. The precision is the graph's: nothing is set here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swin_deploy.batches import BatchRange
from swin_deploy.child import run_in_child, run_reporting
from swin_deploy.engine.build_record import Progress
from swin_deploy.engine.fingerprint import Fingerprint, fingerprint_here, platform_here
from swin_deploy.engine.options import DEFAULT_OPTIONS, BuildOptions
from swin_deploy.engine.target import Target
from swin_deploy.engine.timing_cache import cache_file, cuda_version
from swin_deploy.engine.written import Written
from swin_deploy.errors import EnvironmentMissingError, ResourceError
from swin_deploy.files import atomic_path, sync, write_json
from swin_deploy.runners.cuda import device_compute_capability, device_name, device_problem

TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine file that is complete.

    Attributes:
        module: The runtime's Python module.
        version: Its version.
        built_for: What it takes to load it.
        kernels: Kernels of one inference; None where the runtime does not list them.
        fused_attentions: Attentions that are one kernel each; None likewise.
        activation_bytes: Read and written by one inference; None likewise, or where the batch is
            dynamic.
        notes: What the user has to know of it.
        settings: What the compiler was told, members of enumerations by their names.
        written: The bytes that the compiler's process has read and written.
    """

    module: str
    version: str | None
    built_for: Fingerprint
    written: Written
    kernels: int | None = None
    fused_attentions: int | None = None
    activation_bytes: int | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def build_engine(
    target: Target,
    source: Path,
    final: Path,
    batch: BatchRange,
    log: Path,
    listing_path: Path | None = None,
    options: BuildOptions = DEFAULT_OPTIONS,
    advanced: Callable[[str, int, int], None] | None = None,
) -> BuiltEngine:
    """Compile ``source`` for ``target``, in a child process.

    Args:
        target: A row of the table.
        source: A verified ONNX file, in the precision that the engine shall have.
        final: Replaced by the engine if the build succeeds; so is the file with its weights, if
            it has one, of the same name but for its suffix.
        batch: The batch sizes of the graph.
        log: Gets what the compiler said.
        listing_path: Replaced by the listing of its kernels, if the runtime has any.
        options: What the compiler is told, where it takes any of it; see ``Target.options``.
        advanced: Is told how far it is: phase, steps done, steps in all.

    Raises:
        EnvironmentMissingError: The runtime, or the GPU that it builds on, is not here.
        InputError: The runtime refuses the graph.
        ResourceError: The build died or ran out of time.
    """
    require_installed(target)
    with atomic_path(final) as scratch:
        if target.kind == "onnxruntime":
            from swin_deploy.engine.onnxruntime_build import build_onnxruntime

            version, made = run_in_child(build_onnxruntime, log, TIMEOUT_S, source, scratch)
            return BuiltEngine(
                module=target.module,
                version=version,
                written=made,
                built_for=built_fingerprint(target, version),
            )
        if target.kind == "openvino":
            from swin_deploy.engine.openvino_build import build_openvino

            version, made = run_in_child(build_openvino, log, TIMEOUT_S, source, scratch)
            suffix = f".{target.weights_suffix}"
            sync(scratch.with_suffix(suffix))
            scratch.with_suffix(suffix).replace(final.with_suffix(suffix))
            return BuiltEngine(
                module=target.module,
                version=version,
                written=made,
                built_for=built_fingerprint(target, version),
            )
        from swin_deploy.engine.tensorrt_build import build_tensorrt

        last = Progress()

        def heard(progress: Progress) -> None:
            nonlocal last
            last = progress
            if advanced is not None and progress.phases:
                advanced(progress.phases[-1], progress.done, progress.total)

        asked = effective_options(target, options)
        try:
            compiled = run_reporting(
                build_tensorrt,
                log,
                TIMEOUT_S,
                heard,
                target.module,
                source,
                scratch,
                batch,
                target.compute_capability if target.builds_without_gpu else None,
                with_cache_file(target, asked),
            )
        except ResourceError as error:
            if "it was at" in error.problem:  # the compiler itself gave up, and said where
                raise
            raise ResourceError(
                f"building {final.name} ended at {last}: {error.problem}",
                "more memory or a smaller --batch if the system killed it (SIGKILL); another "
                f"--workspace or a lower --opt-level; what the compiler said is in {log}",
            ) from error
    listing, version = compiled.listing, compiled.version
    if listing_path is not None:
        write_json(listing_path, listing.as_dict())
    problem = f"engine {final.name} is fine, its kernels are not known: {listing.problem}"
    return BuiltEngine(
        module=target.module,
        version=version,
        written=compiled.written,
        built_for=built_fingerprint(target, version, asked),
        settings=compiled.settings,
        notes=(*compiled.notes, *([problem] if listing.problem else [])),
        kernels=len(listing.kernels) or None,
        fused_attentions=listing.fused_attentions if listing.kernels else None,
        activation_bytes=listing.activation_bytes if listing.kernels else None,
    )


def require_installed(target: Target) -> None:
    """Check that the target's runtime is on this machine.

    Raises:
        EnvironmentMissingError: It is not; names the command that installs it.
    """
    if not target.installed:
        raise EnvironmentMissingError(
            f"target {target.name} needs {target.module}, which is not installed", target.install
        )


def effective_options(target: Target, options: BuildOptions) -> BuildOptions:
    """What the compiler of a target is told: what it takes of a request, else what its row says."""
    given = {name: value for name, value in options.given().items() if name in target.options}
    return BuildOptions(**given, timing_cache=options.timing_cache).over(target.builder)


def with_cache_file(target: Target, options: BuildOptions) -> BuildOptions:
    """The same with the file of the timing cache of this machine, if it takes one."""
    if options.timing_cache is None or target.builds_without_gpu or device_problem() is not None:
        return replace(options, timing_cache=None)
    here = fingerprint_here(target.module, target.distribution)
    return replace(options, timing_cache=cache_file(options.timing_cache, here, cuda_version()))


def built_fingerprint(
    target: Target, version: str | None, options: BuildOptions = DEFAULT_OPTIONS
) -> Fingerprint:
    """What it takes to load an engine of ``target`` that was built here just now."""
    about = Fingerprint(module=target.module, version=version, platform=platform_here())
    if target.kind != "tensorrt":
        return about
    if target.builds_without_gpu:
        capability = target.compute_capability
        return replace(about, runs_on=target.runs_on if capability is None else (capability,))
    return replace(
        about,
        compute_capability=device_compute_capability(),
        device=device_name().rpartition(", sm_")[0],
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
    )
