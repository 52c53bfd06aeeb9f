"""The stages that convert to FP16 and BF16: which nodes stay in FP32, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.interface import interface_spec
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.precisions import HalfPrecision

_NAMED = 4  # nodes that a note names; the manifest has all


def half_spec(
    request: ExportRequest, precision: HalfPrecision, seen: dict[str, Any]
) -> dict[str, Any]:
    """What the result depends on besides the graph.

    Args:
        request: Of the run.
        precision: BF16 holds whatever FP32 does, so no images are run for it.
        seen: What the images of the run depend on.
    """
    named = {"fp32_nodes": request.fp32_nodes, **interface_spec(request)}
    return named | {"images": seen} if precision == "fp16" else named


def half_action(
    precision: HalfPrecision, source: str, final: str
) -> Callable[[RunContext], dict[str, Any]]:
    """The action that converts ``source`` into ``final``, both names of files of the run."""

    def convert(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.dress import dress_graph
        from swin_deploy.graph.half import HALVES, convert_to_half
        from swin_deploy.graph.ranges import LIMIT, find_large, match_nodes

        graph = context.folder.file(source)
        named = match_nodes(graph, context.request.fp32_nodes)
        large: dict[str, float] = {}
        if HALVES[precision].limit is not None:
            large = find_large(graph, (images.images for images in context.inputs))
        kept = dict.fromkeys(named) | large
        scratch, request = context.folder.scratch(final), context.request
        result = convert_to_half(graph, scratch, precision, kept)
        if not request.interface.plain:
            steps = request.variant.preprocessing
            dress_graph(scratch, scratch, request.interface, steps, precision)
        notes = []
        if large:
            names = list(large)
            rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            notes.append(
                f"{final}: {', '.join(names[:_NAMED])}{rest} stay in FP32, because values there "
                f"reach {max(large.values()):.3g} (limit {LIMIT:.0f})"
            )
        return asdict(result) | {"fp32_nodes": kept, "notes": notes}

    return convert
