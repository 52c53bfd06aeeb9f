"""TensorRT 10.3 to 11 and TensorRT-RTX, one code path: the module is a parameter."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from swin_deploy.batches import BatchRange
from swin_deploy.engine.listing import Listing
from swin_deploy.engine.listing_inspector import read_inspector
from swin_deploy.engine.listing_log import read_listing
from swin_deploy.errors import EnvironmentMissingError, InputError, ResourceError


def build_tensorrt(
    module: str,
    source: Path,
    final: Path,
    batch: BatchRange,
    compute_capability: str | None = None,
) -> tuple[Listing, str]:
    """Compile an ONNX file into a plan. Runs in a child process: the compiler is native code.

    Args:
        module: "tensorrt" or "tensorrt_rtx".
        source: A strongly typed ONNX file with the input ``image``.
        final: Gets the plan.
        batch: Becomes one optimisation profile, tuned for its largest size, if it is dynamic.
        compute_capability: Of the GPUs to compile for, as "8.6"; None for what the library takes by
            itself: the GPU of this machine, or of TensorRT-RTX every RTX Ampere or newer.

    Returns:
        The kernels, or why they cannot be read, and the library's version.

    Raises:
        EnvironmentMissingError: The library cannot start here, for want of a GPU for example, or
            compiles for no such GPU.
        InputError: The parser refuses the graph.
        ResourceError: The compiler gave up.
    """
    trt = _import(module)
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except (RuntimeError, TypeError) as error:  # TypeError: the native constructor returned null
        raise EnvironmentMissingError(
            f"{module} {trt.__version__} cannot build here: {logger.errors() or error}",
            "a machine with the GPU and its driver: swin-deploy doctor",
        ) from error
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{e.node_name()} ({e.node_operator()}): {e.desc()}" for e in errors]
        raise InputError(f"{module} cannot parse {source.name}: {'; '.join(reasons)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if compute_capability is not None and not _aim(trt, config, compute_capability):
        raise EnvironmentMissingError(
            f"{module} {trt.__version__} cannot compile for GPUs of {compute_capability}",
            "target rtx, or a machine with that GPU and target tensorrt",
        )
    if not batch.static:
        config.add_optimization_profile(_profile(builder, network.get_input(0), batch))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ResourceError(
            f"{module} {trt.__version__} built no engine from {source.name}: {logger.errors()}",
            "a smaller batch, or more free GPU memory",
        )
    final.write_bytes(plan)
    try:
        if module == "tensorrt_rtx":  # lists them as it builds; reading its engine takes a GPU
            return read_listing(logger.messages), trt.__version__
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ResourceError(f"{module} cannot read the engine that it built: {logger.errors()}")
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return read_inspector(text), trt.__version__
    except InputError as error:  # the engine is as good as ever; whoever asks for kernels is told
        return Listing((), error.problem), trt.__version__


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        raise EnvironmentMissingError(
            f"cannot import {module}: {error}", "swin-deploy doctor"
        ) from error


def _aim(trt: Any, config: Any, compute_capability: str) -> bool:
    """Compile for one compute capability alone; whether the library can, TensorRT-RTX only does."""
    if hasattr(config, "num_compute_capabilities"):
        known = {
            "7.5": trt.ComputeCapability.SM75,
            "8.6": trt.ComputeCapability.SM86,
            "8.9": trt.ComputeCapability.SM89,
            "12.0": trt.ComputeCapability.SM120,
        }
        config.num_compute_capabilities = 1
        return bool(config.set_compute_capability(known[compute_capability], 0))
    return False


def _profile(builder: Any, image: Any, batch: BatchRange) -> Any:
    rest = tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, (batch.low, *rest), (batch.high, *rest), (batch.high, *rest))
    return profile


def make_logger(trt: Any) -> Any:
    """A logger that keeps every message, and prints those that a build log should have."""

    class KeepingLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._errors.append(message)
            if severity != trt.ILogger.Severity.VERBOSE:
                print(f"{severity.name}: {message}", flush=True)

        def errors(self) -> str:
            """The last errors, on one line."""
            return "; ".join(self._errors[-3:])

    return KeepingLogger()
