"""An engine file -> a runner that can run it here, or the reason why none can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swin_deploy.data.pixels import FP32_INPUT, ImageInput
from swin_deploy.engine.fingerprint import Fingerprint, fingerprint_here, require_match
from swin_deploy.engine.target import Target
from swin_deploy.errors import EnvironmentMissingError
from swin_deploy.files import Recorded
from swin_deploy.interface import Interface
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.runners.cuda import device_compute_capability, device_problem
from swin_deploy.runners.ends import BEFORE, has_ends
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.runners.openvino import OpenVinoRunner
from swin_deploy.runners.tensorrt import TensorRtRunner


def open_engine(
    target: Target,
    precision: Precision,
    path: Path,
    threads: int | None = None,
    image_input: ImageInput = FP32_INPUT,
    built_for: Fingerprint | None = None,
    at_once: int = 1,
    before: Interface | None = None,
    recorded: Sequence[Recorded] = (),
) -> Runner:
    """The runner of an engine file; nothing is loaded before it is entered.

    Args:
        target: What the engine was built for.
        precision: Of its graph: for the name, and for runtimes that are free to take another.
        path: The engine file.
        threads: For engines that run on the CPU; None for one per usable core.
        image_input: What it takes.
        built_for: What its manifest says; None for an engine that was built here just now.
        at_once: How many threads will call it at the same time.
        before: Give the logits that these ends take, in place of what the engine gives; not of a
            plan, which nothing can be read inside of: see ``looks_at``.
        recorded: Its files in order with their recorded hashes: those bytes are loaded, or nothing;
            empty for an engine that was built here just now.

    Raises:
        EnvironmentMissingError: This machine cannot run it, or not this engine of the target.
    """
    if (problem := why_not_here(target)) is not None:
        raise EnvironmentMissingError(
            f"{path} cannot run here: {problem}",
            "a machine with that GPU; on this one, the engine of target cpu"
            if target.kind == "tensorrt"
            else target.install,
        )
    if built_for is not None:
        require_match(built_for, fingerprint_here(target.module, target.distribution), path)
    name = f"engine {target.name}-{precision}{'' if before is None else BEFORE}"
    only = recorded[0] if recorded else None  # of runtimes whose engines are one file
    if target.kind == "onnxruntime":
        return OnnxRuntimeRunner(path, threads, name, image_input, before=before, recorded=only)
    if target.kind == "openvino":
        return OpenVinoRunner(
            path,
            precision,
            threads,
            name,
            image_input,
            requests=at_once,
            before=before,
            recorded=recorded,
        )
    return TensorRtRunner(path, target.module, name, image_input, contexts=at_once, recorded=only)


def looks_at(target: Target, interface: Interface) -> tuple[Interface | None, ...]:
    """The values of ``before`` with which a gate opens an engine: as it is, and before its ends."""
    return (None, interface) if has_ends(interface) and target.kind != "tensorrt" else (None,)


def why_not_here(target: Target, flags: Sequence[str] = ()) -> str | None:
    """Why engines of this target cannot run on this machine; None if they can.

    Args:
        target: Its row.
        flags: That the compiler of one of them was given, for what holds for that one.
    """
    if "STRIP_PLAN" in flags:
        return "its weights are stripped: swin-deploy refit brings them, and verifies it"
    if not target.installed:
        return f"{target.module} is not installed ({target.install})"
    if target.kind != "tensorrt":
        return None
    if (problem := device_problem()) is not None:
        return problem
    wanted = target.compute_capability
    if wanted is not None and wanted != (here := device_compute_capability()):
        return f"it is for GPUs of compute capability {wanted}, the one of this machine has {here}"
    return None
