"""What a run consists of: each stage's inputs, settings and action, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from swin_deploy.core.errors import present
from swin_deploy.core.files import write_json
from swin_deploy.data.images import PhotoFolder
from swin_deploy.data.labelled import LabelledSet
from swin_deploy.data.samples import CalibrationSet
from swin_deploy.engine.open import why_not_here
from swin_deploy.network.checkpoints.shards import checkpoint_sha256
from swin_deploy.network.checkpoints.source import checkpoint_file
from swin_deploy.network.interface import HALF_PRECISIONS, Batches, new_seed
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.conversions import (
    calibrate_action,
    calibrate_spec,
    half_action,
    half_spec,
    int8_action,
    int8_spec,
    interface_action,
    interface_spec,
)
from swin_deploy.pipeline.engines import engine_action, engine_outputs, engine_spec
from swin_deploy.pipeline.plan import Plan
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.details import (
    GRAPHS,
    INT8_GRAPHS,
    INT8_RECIPES,
    LABELS,
    PLAIN,
    RAW,
    SAMPLE,
    SIMPLE,
    STATISTICS,
    VERIFY,
    WEIGHTS,
    EngineDetails,
    VerifyDetails,
    graph_of,
)
from swin_deploy.run.manifest import Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: Key in the manifest.
        title: What progress shows.
        inputs: Files of the run that it reads; those of optional stages may be absent.
        outputs: Files of the run that it writes.
        spec: Settings that its outputs depend on, JSON-able.
        packages: Distributions whose version its outputs depend on.
        action: Does it; returns details for the manifest.
        optional: Left out, with a note, where what it needs is not on this machine.
        holds: Whether what was found out with the same key is all that this machine can find out.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    spec: Any
    packages: tuple[str, ...]
    action: Callable[[RunContext], dict[str, Any]]
    optional: bool = False
    holds: Callable[[Stages], bool] = lambda found: True


def plan_stages(
    request: ExportRequest,
    plan: Plan,
    photos: PhotoFolder | None,
    calibration: CalibrationSet | None = None,
    labelled: LabelledSet | None = None,
) -> list[Stage]:
    """The stages of a run, in order."""
    weights = None if request.weights is None else checkpoint_file(request.weights)
    seed = request.seed if weights is None else None
    network = {"config": asdict(request.variant.config), "seed": seed}
    loaded = () if weights is None else (WEIGHTS,)
    halves = [precision for precision in HALF_PRECISIONS if precision in request.precisions]
    kinds = tuple(dict.fromkeys(INT8_RECIPES[t.kind] for t, p in plan.engines if p == "int8"))
    graphs = [RAW, SIMPLE, *(GRAPHS[p] for p in halves), *(INT8_GRAPHS[kind] for kind in kinds)]
    seen = {
        "batch": str(request.batch),
        "photos": photos and photos.sha256,
        "calibration": calibration and calibration.sha256,
        "io": request.interface.io,
        "preprocessing": asdict(request.variant.preprocessing),
    }
    plain = SIMPLE if request.interface.plain else PLAIN
    stages = []
    if weights is not None:
        stages.append(
            Stage(
                name="weights",
                title=f"reading {weights.name}",
                inputs=(),
                outputs=(*loaded, *([LABELS] if request.labels else [])),
                spec=network
                | {
                    "checkpoint": checkpoint_sha256(weights),
                    "load": asdict(request.load),
                    "labels": request.labels,
                },
                packages=("torch", "safetensors"),
                action=_load_weights,
            )
        )
    stages += [
        Stage(
            name="export",
            title="exporting ONNX",
            inputs=loaded,
            outputs=(RAW,),
            spec=network
            | {
                "batch": str(request.batch),
                "outputs": request.outputs,
                "form": plan.form,
                "opset": plan.opset,
            },
            packages=("torch", "onnx", "onnxscript", "onnx-ir"),
            action=_export,
        ),
        Stage(
            name="simplify",
            title="simplifying",
            inputs=(RAW,),
            outputs=(plain,),
            spec={"strict": request.strict, "output": plain},
            packages=("onnx", "onnxsim", "onnxruntime"),
            action=_simplify_action(plain),
        ),
    ]
    if plain != SIMPLE:
        stages.append(
            Stage(
                name="interface",
                title="setting inputs and outputs",
                inputs=(plain,),
                outputs=(SIMPLE,),
                spec=interface_spec(request),
                packages=("onnx", "onnx-ir"),
                action=interface_action(plain, SIMPLE),
            )
        )
    stages += [
        Stage(
            name=precision,
            title=f"converting to {precision.upper()}",
            inputs=(plain,),
            outputs=(GRAPHS[precision],),
            spec=half_spec(request, precision, seen),
            packages=("onnx", "onnx-ir", "onnxruntime", "pillow"),
            action=half_action(precision, plain, GRAPHS[precision]),
        )
        for precision in halves
    ]
    if calibration is not None:
        stages.append(
            Stage(
                name="calibrate",
                title="calibrating INT8",
                inputs=(plain,),
                outputs=(STATISTICS, SAMPLE),
                spec=calibrate_spec(request, calibration, kinds),
                packages=("onnx", "onnx-ir", "onnxruntime", "pillow"),
                action=calibrate_action(plain, kinds),
            )
        )
    stages += [
        Stage(
            name=f"int8:{kind}",
            title=f"quantising for {kind}",
            inputs=(plain, STATISTICS),
            outputs=(INT8_GRAPHS[kind],),
            spec=int8_spec(request, kind, seen, labelled),
            packages=("onnx", "onnx-ir", "onnxruntime", "pillow"),
            action=int8_action(kind, plain),
        )
        for kind in kinds
    ]
    stages += [
        Stage(
            name=f"engine:{target.name}-{precision}",
            title=f"compiling {precision} for {target.name}",
            inputs=(graph_of(target, precision),),
            outputs=engine_outputs(target, precision),
            spec=engine_spec(request, target),
            packages=(target.distribution,),
            action=engine_action(target, precision),
            optional=request.targets is None,
        )
        for target, precision in plan.built_here
    ]
    stages.append(
        Stage(
            name="verify",
            title="verifying against eager PyTorch",
            inputs=(
                *loaded,
                *graphs,
                *(
                    name
                    for target, precision in plan.built_here
                    for name in target.engine_files(precision)
                ),
                *([STATISTICS] if kinds else []),
            ),
            outputs=(VERIFY,),
            spec=network
            | {"outputs": request.outputs, **interface_spec(request)}
            | seen
            | {"int8_by_accuracy": labelled is not None, "gate_seed": request.gate_seed},
            packages=(
                *("torch", "onnxruntime", "pillow"),
                *dict.fromkeys(target.distribution for target, _ in plan.built_here),
            ),
            action=_verify,
            holds=_ran_all_that_runs,
        )
    )
    return stages


def _load_weights(context: RunContext) -> dict[str, Any]:
    from safetensors.torch import save_file

    from swin_deploy.network.checkpoints.load import load_for

    weights = present(context.request.weights)  # this stage is planned only with a checkpoint
    checkpoint = load_for(weights, context.request.load, context.request.variant.config)
    save_file(checkpoint.tensors, context.folder.scratch(WEIGHTS))
    if context.request.labels:
        write_json(context.folder.scratch(LABELS), context.request.labels)
    return {
        "file": checkpoint_file(weights).name,
        "sha256": checkpoint_sha256(checkpoint_file(weights)),
        "dialect": checkpoint.dialect,
        "tensors": len(checkpoint.tensors),
        "dropped": len(checkpoint.dropped),
        "notes": list(checkpoint.notes),
    }


def _export(context: RunContext) -> dict[str, Any]:
    from swin_deploy.graph.export import export_graph, read_outputs
    from swin_deploy.graph.simplify import count_nodes
    from swin_deploy.network.model.build import count_parameters, output_names, require_fits_onnx

    config, path = context.request.variant.config, context.folder.scratch(RAW)
    require_fits_onnx(config)
    network = context.as_asked(context.frozen)
    opset = context.plan.opset
    export_graph(network, config, context.request.batch, path, output_names(network), opset)
    return {
        "parameters": count_parameters(context.eager),
        "form": context.plan.form if isinstance(config, SwinConfig) else None,
        "nodes": count_nodes(path),
        "opset": opset,
        "outputs": read_outputs(path),
    }


def _simplify_action(final: str) -> Callable[[RunContext], dict[str, Any]]:
    def simplify(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.simplify import simplify_graph

        folder = context.folder
        result = simplify_graph(
            folder.file(RAW),
            folder.scratch(final),
            context.noise(context.request.batch.high).images,
            context.log("simplify"),
            context.request.strict,
        )
        if result.failure:
            context.note(f"the graph is not simplified: {result.failure}")
        return asdict(result)

    return simplify


def _ran_all_that_runs(found: Stages) -> bool:
    """Whether the gate left out no engine that can run here.

    One that did run stays proven where it cannot; so this is no part of the key.
    """
    (gate,) = found.details(VerifyDetails).values()
    return not any(
        f"engine {engine.target}-{engine.precision}" in gate.not_run
        and why_not_here(engine.row, engine.flags) is None
        for engine in found.details(EngineDetails).values()
    )


def _verify(context: RunContext) -> dict[str, Any]:
    from swin_deploy.measure.verify.conversions import require_as_built, require_conversions
    from swin_deploy.pipeline.gate import verify_run

    batch, seed = context.request.batch, context.request.gate_seed
    seed = new_seed() if seed is None else seed
    sizes = batch.checked_sizes(seed)
    if batch.drawn:
        context.note(
            f"verified at batch {', '.join(map(str, sizes))}, of {batch}; --gate-seed {seed} "
            "draws the same"
        )
    drawn = Batches(sizes=sizes, seed=seed if batch.drawn else None)
    verification = verify_run(context, context.gate_inputs(sizes))
    verification.require()
    converted = require_conversions(context.folder.current, context.folder.file)
    require_as_built(context.folder.current, context.folder.file)
    write_json(context.folder.scratch(VERIFY), verification.report(drawn).as_dict())
    return {
        "batches": asdict(drawn),
        "comparisons": len(verification.comparisons),
        "converted_exactly": converted,
        "not_run": verification.not_run,
        "fp32_floors_db": verification.fp32_floors_db,  # bench holds its outputs to the same
        "fp32_extreme_floors_db": verification.fp32_extreme_floors_db,
    }
