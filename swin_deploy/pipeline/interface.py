"""The stage that gives the FP32 graph the inputs and outputs that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.request import ExportRequest


def interface_spec(request: ExportRequest) -> dict[str, Any]:
    """What the ends of a graph depend on besides the graph; nothing where they stay."""
    if request.interface.plain:
        return {}
    steps = request.variant.preprocessing
    return {"interface": asdict(request.interface), "mean": steps.mean, "std": steps.std}


def interface_action(source: str, final: str) -> Callable[[RunContext], dict[str, Any]]:
    """The action that makes ``final`` of ``source``, both FP32 and names of files of the run."""

    def dress(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.dress import dress_graph
        from swin_deploy.graph.export import read_ends

        folder, request = context.folder, context.request
        scratch, steps = folder.scratch(final), request.variant.preprocessing
        dress_graph(folder.file(source), scratch, request.interface, steps, "fp32")
        inputs, outputs = read_ends(scratch)
        exported = tuple(folder.current.stages["export"].details["outputs"])
        if tuple(outputs) != (wanted := request.interface.output_names(exported)):
            raise RuntimeError(f"{final} has the outputs {outputs}, and was to have {wanted}")
        return {"inputs": inputs, "outputs": outputs}

    return dress
