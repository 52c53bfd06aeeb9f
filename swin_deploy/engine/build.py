"""ONNX file -> engine file, for one target. The precision is the graph's: nothing is set here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import EnvironmentMissingError, InputError, ResourceError
from swin_deploy.core.files import (
    atomic_path,
    package_version,
    require_plain_file,
    sync,
    write_json,
)
from swin_deploy.core.process import run_in_child, run_reporting
from swin_deploy.engine.here import Fingerprint, fingerprint_here, platform_here
from swin_deploy.engine.options import DEFAULT_OPTIONS, BuildOptions, Progress, Written, written
from swin_deploy.engine.runners.cuda import (
    device_compute_capability,
    device_problem,
    driver_version,
    plain_name,
)
from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.engine.target import Target
from swin_deploy.engine.timing_cache import cache_file
from swin_deploy.network.interface import BatchRange

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
    """
    require_installed(target)
    with atomic_path(final) as scratch:
        if target.kind != "tensorrt":
            build = build_openvino if target.kind == "openvino" else build_onnxruntime
            version, made = run_in_child(build, log, TIMEOUT_S, source, scratch)
            if target.weights_suffix is not None:
                suffix = f".{target.weights_suffix}"
                sync(scratch.with_suffix(suffix))
                scratch.with_suffix(suffix).replace(final.with_suffix(suffix))
            return BuiltEngine(
                module=target.module,
                version=version,
                written=made,
                built_for=built_fingerprint(target, version),
            )
        from swin_deploy.engine.tensorrt import build_tensorrt

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
    """Check that the target's runtime is on this machine."""
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
    return replace(options, timing_cache=cache_file(options.timing_cache, here, driver_version()))


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
        device=plain_name(),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
    )


def build_onnxruntime(source: Path, final: Path) -> tuple[str | None, Written]:
    """Write the optimised graph to ``final``; returns the runtime's version, and what it wrote.

    The level is EXTENDED: its fusions run on any CPU. The level above it, ALL, picks memory layouts
    for the processor at hand, and a file made so is slow or refused on another one.
    """
    import onnxruntime

    options = session_options(threads=None)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(final)
    try:
        open_session(source, options)
    except InputError as error:
        # How it says that it could not write.
        if "serialization failed" not in str(error.__cause__):
            raise
        raise _no_room("onnxruntime", source, final) from error
    return package_version("onnxruntime"), written(source, final)


def build_openvino(source: Path, final: Path) -> tuple[str | None, Written]:
    """Write the graph to ``final`` (.xml) and its weights beside it (.bin).

    Args:
        source: An ONNX file.
        final: Its name ends in .xml; OpenVINO derives that of the weights from it.

    Returns:
        The runtime's version, and what it wrote.

    Weights keep the type that they have in the graph: what ``save_model`` does by itself, FP16,
    would be another network. The code for the processor at hand is made when the engine is opened,
    so the files serve any CPU.
    """
    import openvino

    require_plain_file(source, "an ONNX model")
    try:
        model = openvino.Core().read_model(str(source))
    except RuntimeError as error:
        raise InputError(f"openvino cannot read {source.name}: {error}") from error
    try:
        openvino.save_model(model, str(final), compress_to_fp16=False)
    except RuntimeError as error:
        raise _no_room("openvino", source, final, f": {error}") from error
    return package_version("openvino"), written(source, final, final.with_suffix(".bin"))


def _no_room(module: str, source: Path, final: Path, reason: str = "") -> ResourceError:
    free, needed = shutil.disk_usage(final.parent).free, source.stat().st_size
    return ResourceError(
        f"{module} could not write its engine: {free:,} bytes are free, about {needed:,} are "
        f"needed{reason}",
        "free some space, or another disk",
    )
