"""An engine file -> a runner for it, or why none can be here; and new weights into a plan."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path

from swin_deploy.core.errors import EnvironmentMissingError, InputError, ResourceError
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.engine.here import Fingerprint, fingerprint_here, require_match
from swin_deploy.engine.options import Written
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.cuda import device_compute_capability, device_problem
from swin_deploy.engine.runners.ends import BEFORE, has_ends
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.openvino import OpenVinoRunner
from swin_deploy.engine.runners.tensorrt import TensorRtRunner
from swin_deploy.engine.target import Target
from swin_deploy.network.interface import Interface, Precision


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


_NAMED = 4  # weights that a message names


def refit_plan(module: str, plan: Recorded, graph: Path, final: Path) -> tuple[str, Written]:
    """Write ``plan`` with the weights of ``graph``. Runs in a child process: it is native code.

    Args:
        module: "tensorrt" or "tensorrt_rtx".
        plan: Refittable, and built for this machine.
        graph: The graph that it was built from, but for the values of the weights.
        final: Gets the plan, with all weights; it stays refittable.

    Returns:
        The library's version, and what it read and wrote.
    """
    trt = importlib.import_module(module)
    logger = trt.Logger(trt.Logger.WARNING)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan.read())
    if engine is None:
        raise EnvironmentMissingError(
            f"{module} {trt.__version__} cannot read {plan.path} here",
            "export again on this machine",
        )
    if not engine.refittable:
        raise InputError(f"{plan.path} is not refittable", "export again with --refittable")
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    read = sha256(graph)
    if not parser.refit_from_file(str(graph)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = "; ".join(f"{e.node_name()}: {e.desc()}" for e in errors)
        raise InputError(f"{graph.name} does not fit {plan.path.name}: {reasons}")
    missing = refitter.get_missing_weights()
    if missing:
        names = ", ".join(str(name) for name in missing[:_NAMED])
        raise InputError(
            f"{graph.name} has no weights for {len(missing)} of {plan.path.name}: {names}"
        )
    if not refitter.refit_cuda_engine():
        raise ResourceError(f"{module} could not refit {plan.path.name}", "more free GPU memory")
    settings = engine.create_serialization_config()
    settings.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    if hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):  # TensorRT 10.3 always includes it
        settings.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    content = bytes(engine.serialize_with_config(settings))
    final.write_bytes(content)
    made = Written(graph=read, files={final.suffix: hashlib.sha256(content).hexdigest()})
    return str(trt.__version__), made
