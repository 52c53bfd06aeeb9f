"""Everything that a run made, against the eager network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from swin_deploy.data.inputs import InputSet
from swin_deploy.engine.open import looks_at, open_engine, why_not_here
from swin_deploy.interface import LOGITS
from swin_deploy.pipeline.context import ROUNDED, RunContext
from swin_deploy.pipeline.rounding import allow_for_rounding
from swin_deploy.precisions import Precision
from swin_deploy.run.details import EngineDetails
from swin_deploy.run.names import graph_of
from swin_deploy.runners.base import Runner
from swin_deploy.runners.ends import BEFORE, has_ends
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.verify import Comparison, Verification, compare, compare_runners
from swin_deploy.verify.names import SIDES
from swin_deploy.verify.sides import list_graphs, open_graph

# Of what is compared, where it is not the name of the side.
TITLES = {
    "raw": "exported",
    "onnx": "simplified",
    "int8": "int8 for tensorrt",
    "int8-cpu": "int8 for onnxruntime",
}


def verify_run(context: RunContext, inputs: Sequence[InputSet]) -> Verification:
    """Compare the form, landmark by landmark, and then every file of the run, with eager.

    Args:
        context: With all files in place.
        inputs: At least one set of images.
    """
    not_run: dict[str, str] = {}
    int8_db: dict[str, float] = {}
    comparisons = compare_runners(
        TorchRunner(context.as_asked(context.eager)),
        _candidates(context, not_run, int8_db),
        inputs,
        context.request.interface,
    )
    # Accuracy may have decided on an INT8 graph, but on no engine of it.
    comparisons = tuple(
        replace(row, floor_db=int8_db.get(row.candidate, row.floor_db))
        if row.floor_db is not None
        else row
        for row in comparisons
    )
    if context.request.outputs == LOGITS:  # else the stages are the outputs
        comparisons = _compare_landmarks(context, inputs[0]) + comparisons
    return Verification(allow_for_rounding(context, inputs, comparisons), not_run)


def _compare_landmarks(context: RunContext, inputs: InputSet) -> tuple[Comparison, ...]:
    images = torch.from_numpy(inputs.images)
    with torch.inference_mode():
        eager, frozen = context.eager.landmarks(images), context.frozen.landmarks(images)
    return tuple(
        compare(
            f"form, {name}",
            inputs.name,
            reference.numpy(),
            frozen[name].numpy(),
            "fp32",
            output=name,
        )
        for name, reference in eager.items()
    )


def _candidates(
    context: RunContext, not_run: dict[str, str], int8_db: dict[str, float]
) -> Iterator[tuple[Runner, Precision]]:
    """All runners, one after the other; says what cannot run, and the floors of INT8 by name."""
    yield TorchRunner(context.as_asked(context.frozen), "export form"), "fp32"
    folder, interface = context.folder, context.request.interface
    floors_db = folder.current.int8_floors_db()
    graphs = list_graphs(
        folder.current.outputs(), folder.file, lambda p: context.image_input(interface.io_of(p))
    )
    for side in graphs:
        name = f"onnx, {TITLES.get(side.name, side.name)}"
        deployed = has_ends(interface) and side.name != "raw"
        for before in (None, interface) if deployed else (None,):
            title = name if before is None else f"{name}{BEFORE}"
            if side.precision == "int8":
                int8_db[title] = floors_db[SIDES[side.name]]
            yield open_graph(side, folder.scratch(ROUNDED), title, before), side.precision
    for details in context.folder.current.details(EngineDetails).values():
        target, precision = details.row, details.precision
        path = context.folder.file(target.engine_name(precision))
        if (reason := why_not_here(target, details.flags)) is not None:
            not_run[f"engine {target.name}-{precision}"] = reason
            continue
        taken = context.image_input(interface.io_of(precision))
        for before in looks_at(target, interface):
            engine = open_engine(
                target,
                precision,
                path,
                image_input=taken,
                built_for=details.built_for,
                before=before,
            )
            if precision == "int8":
                int8_db[engine.name] = floors_db[graph_of(target, precision)]
            yield engine, precision
