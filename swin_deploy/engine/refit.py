"""New weights into a finished plan: what took minutes to compile is kept. On the GPU only."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

from swin_deploy.engine.written import Written
from swin_deploy.errors import EnvironmentMissingError, InputError, ResourceError
from swin_deploy.files import Recorded, sha256

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

    Raises:
        EnvironmentMissingError: The library cannot read the plan here.
        InputError: The graph has not all of the weights, or others.
        ResourceError: The GPU has no room for both.
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
