"""TensorRT 10.3 to 11 and TensorRT-RTX, one code path: the module is a parameter."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import (
    EnvironmentMissingError,
    InputError,
    ResourceError,
    SwinDeployError,
)
from swin_deploy.core.files import sha256
from swin_deploy.engine.cost.listing import Listing, read_inspector, read_listing
from swin_deploy.engine.options import DEFAULT_OPTIONS, BuildOptions, BuildRecord, Progress, Written
from swin_deploy.engine.timing_cache import read_cache, write_cache
from swin_deploy.network.interface import BatchRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a build has given beside the plan.

    Attributes:
        listing: The kernels, or why they cannot be read.
        version: Of the library.
        settings: What the compiler was told; members of enumerations by name.
        notes: What the user has to know.
        written: The graph that was parsed, and the plan as it was handed over.
    """

    listing: Listing
    version: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    written: Written


def build_tensorrt(
    report: Callable[[Progress], None],
    module: str,
    source: Path,
    final: Path,
    batch: BatchRange,
    compute_capability: str | None = None,
    options: BuildOptions = DEFAULT_OPTIONS,
) -> Compiled:
    """Compile an ONNX file into a plan. Runs in a child process: the compiler is native code.

    Args:
        report: Is told how far it is.
        module: "tensorrt" or "tensorrt_rtx".
        source: A strongly typed ONNX file with the input ``image``.
        final: Gets the plan.
        batch: Becomes one optimisation profile, tuned for its largest size, if it is dynamic.
        compute_capability: Of the GPUs to compile for, as "8.6"; None for what the library takes by
            itself: the GPU of this machine, or of TensorRT-RTX every RTX Ampere or newer.
        options: What the compiler is told beside the graph. ``timing_cache`` is a file here.
    """
    trt = _import(module)
    record = BuildRecord(report)
    logger = make_logger(trt, record)
    try:
        builder = trt.Builder(logger)
    except (RuntimeError, TypeError) as error:  # TypeError: the native constructor returned null
        raise EnvironmentMissingError(
            f"{module} {trt.__version__} cannot build here: {record.errors or error}",
            "a machine with the GPU and its driver: swin-deploy doctor",
        ) from error
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    graph = sha256(source)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{e.node_name()} ({e.node_operator()}): {e.desc()}" for e in errors]
        raise InputError(f"{module} cannot parse {source.name}: {'; '.join(reasons)}")
    record.nodes = frozenset(network.get_layer(i).name for i in range(network.num_layers))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if compute_capability is not None and not _aim(trt, config, compute_capability):
        raise EnvironmentMissingError(
            f"{module} {trt.__version__} cannot compile for GPUs of {compute_capability}",
            "a machine with such a GPU",
        )
    image = network.get_input(0)
    if not batch.static:
        config.add_optimization_profile(_profile(builder, image, batch))
    settings = _configure(trt, config, options)
    notes = _take_timings(config, options.timing_cache)
    monitor = make_monitor(trt, record)
    config.progress_monitor = monitor
    print(f"{module} {trt.__version__} builds {source.name}: {settings}", flush=True)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refusal(module, trt.__version__, source, record, options)
    final.write_bytes(plan)
    made = Written(graph=graph, files={final.suffix: hashlib.sha256(plan).hexdigest()})
    notes += _keep_timings(config, options.timing_cache)
    listing = _list_kernels(trt, logger, record, module, plan)
    return Compiled(
        listing=listing,
        version=trt.__version__,
        settings=settings,
        notes=tuple(notes),
        written=made,
    )


def build_quietly(module: str, source: Path, final: Path, batch: BatchRange) -> tuple[Listing, str]:
    """As ``build_tensorrt`` with the compiler's own settings; the kernels and the version."""
    compiled = build_tensorrt(lambda progress: None, module, source, final, batch)
    return compiled.listing, compiled.version


def _refusal(
    module: str, version: str, source: Path, record: BuildRecord, options: BuildOptions
) -> SwinDeployError:
    """Why there is no plan, and what to try."""
    problem = (
        f"{module} {version} built no engine from {source.name}: {record.errors}; "
        f"it was at {record.latest}"
    )
    if module == "tensorrt_rtx" and options.refits and "CUDA_SUCCESS" in record.errors:
        return EnvironmentMissingError(
            problem, "--refittable and --strip-weights on a machine with the GPU, or neither"
        )
    return ResourceError(
        problem, "a smaller --batch, another --workspace, a lower --opt-level, or more GPU memory"
    )


def _list_kernels(trt: Any, logger: Any, record: BuildRecord, module: str, plan: Any) -> Listing:
    try:
        if module == "tensorrt_rtx":  # lists them as it builds; reading its engine takes a GPU
            return read_listing(record.messages)
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ResourceError(f"{module} cannot read the engine that it built: {record.errors}")
        inspector = engine.create_engine_inspector()
        return read_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    except InputError as error:  # the engine is as good as ever; whoever asks for kernels is told
        return Listing((), error.problem)


def _configure(trt: Any, config: Any, options: BuildOptions) -> dict[str, Any]:
    """Tell the compiler the options; returns what it was told. Reading it back needs a GPU."""
    flags = ["STRONGLY_TYPED"]
    if options.refits:
        config.set_flag(trt.BuilderFlag.REFIT)
        flags.append("REFIT")
    if options.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        flags.append("STRIP_PLAN")
    if options.version_compatible:
        # Without the lean runtime in the plan: that is host code, which nothing here allows.
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
        flags += ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
    if options.hardware_compatible == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.hardware_compatible == "same_compute_capability":
        if hasattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY"):
            level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
            config.hardware_compatibility_level = level
        else:
            raise EnvironmentMissingError(
                f"TensorRT {trt.__version__} has no SAME_COMPUTE_CAPABILITY", "a newer TensorRT"
            )
    told: dict[str, Any] = {
        "flags": flags,
        "hardware_compatibility_level": options.hardware_compatible.upper(),
        "profiling_verbosity": "DETAILED",
    }
    if options.optimisation_level is not None:
        config.builder_optimization_level = options.optimisation_level
        told["builder_optimization_level"] = options.optimisation_level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        told["memory_pool_limit"] = {"WORKSPACE": options.workspace_bytes}
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
        told["max_aux_streams"] = options.aux_streams
    # Not in TensorRT 10.3. A gate stands alone, so that tests know it.
    if hasattr(config, "max_num_tactics"):  # noqa: SIM102
        if options.max_tactics is not None:
            config.max_num_tactics = options.max_tactics
            told["max_num_tactics"] = options.max_tactics
    return told


def _take_timings(config: Any, path: Path | None) -> list[str]:
    """Give the compiler the timings of earlier builds; returns what the user has to know."""
    if path is None:
        return []
    content, problem = read_cache(path)
    cache = config.create_timing_cache(content)
    if cache is not None and config.set_timing_cache(cache, False):
        return [problem] if problem else []
    empty = config.create_timing_cache(b"")
    config.set_timing_cache(empty, False)
    return [f"timing cache {path} is damaged or of another machine, and is made anew"]


def _keep_timings(config: Any, path: Path | None) -> list[str]:
    """Keep the timings of this build; returns what the user has to know."""
    if path is None:
        return []
    cache = config.get_timing_cache()
    if cache is None:
        return []
    problem = write_cache(path, bytes(cache.serialize()))
    return [problem] if problem else []


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


def make_logger(trt: Any, record: BuildRecord) -> Any:
    """A logger that hands every message to ``record``."""

    class KeepingLogger(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: Any, message: str) -> None:
            record.heard(str(severity.name), message)

    return KeepingLogger()


def make_monitor(trt: Any, record: BuildRecord) -> Any:
    """A progress monitor that hands everything to ``record``, and lets the build go on."""

    class KeepingMonitor(trt.IProgressMonitor):  # type: ignore[misc]
        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            record.started(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            record.stepped(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            record.finished(phase_name)

    return KeepingMonitor()
