"""ONNX file -> engine file, for one target. The precision is the graph's: nothing is set here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from swin_deploy.batches import BatchRange
from swin_deploy.child import run_in_child
from swin_deploy.engine.fingerprint import Fingerprint, platform_here
from swin_deploy.engine.target import Target
from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.files import atomic_path, sync, write_json
from swin_deploy.runners.cuda import device_compute_capability, device_name

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
    """

    module: str
    version: str | None
    built_for: Fingerprint
    kernels: int | None = None
    fused_attentions: int | None = None
    activation_bytes: int | None = None
    notes: tuple[str, ...] = ()


def build_engine(
    target: Target,
    source: Path,
    final: Path,
    batch: BatchRange,
    log: Path,
    listing_path: Path | None = None,
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

    Raises:
        EnvironmentMissingError: The runtime, or the GPU that it builds on, is not here.
        InputError: The runtime refuses the graph.
        ResourceError: The build died or ran out of time.
    """
    require_installed(target)
    with atomic_path(final) as scratch:
        if target.kind == "onnxruntime":
            from swin_deploy.engine.onnxruntime_build import build_onnxruntime

            version = run_in_child(build_onnxruntime, log, TIMEOUT_S, source, scratch)
            return BuiltEngine(
                module=target.module,
                version=version,
                built_for=built_fingerprint(target, version),
            )
        if target.kind == "openvino":
            from swin_deploy.engine.openvino_build import build_openvino

            version = run_in_child(build_openvino, log, TIMEOUT_S, source, scratch)
            suffix = f".{target.weights_suffix}"
            sync(scratch.with_suffix(suffix))
            scratch.with_suffix(suffix).replace(final.with_suffix(suffix))
            return BuiltEngine(
                module=target.module,
                version=version,
                built_for=built_fingerprint(target, version),
            )
        from swin_deploy.engine.tensorrt_build import build_tensorrt

        listing, version = run_in_child(
            build_tensorrt,
            log,
            TIMEOUT_S,
            target.module,
            source,
            scratch,
            batch,
            target.compute_capability,
        )
    if listing_path is not None:
        write_json(listing_path, listing.as_dict())
    problem = f"engine {final.name} is fine, its kernels are not known: {listing.problem}"
    return BuiltEngine(
        module=target.module,
        version=version,
        built_for=built_fingerprint(target, version),
        notes=(problem,) if listing.problem else (),
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


def built_fingerprint(target: Target, version: str | None) -> Fingerprint:
    """What it takes to load an engine of ``target`` that was built here just now."""
    about = Fingerprint(module=target.module, version=version, platform=platform_here())
    if target.kind != "tensorrt":
        return about
    if target.builds_without_gpu:
        capability = target.compute_capability
        return replace(about, runs_on=target.runs_on if capability is None else (capability,))
    name = device_name().rpartition(", sm_")[0]
    return replace(about, compute_capability=device_compute_capability(), device=name)
