"""The stages that convert the FP32 graph: other ends, FP16 and BF16, calibration, INT8."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.core.errors import InputError, present
from swin_deploy.core.files import write_json
from swin_deploy.data.labelled import LabelledSet
from swin_deploy.data.samples import CalibrationSet, SampledImage, read_batches
from swin_deploy.engine.build import BuiltEngine
from swin_deploy.graph.int8.places import recipe_for
from swin_deploy.graph.int8.thresholds import TensorStatistics
from swin_deploy.measure.verify.conversions import read_statistics
from swin_deploy.network.interface import HalfPrecision
from swin_deploy.network.judge import FloatArray
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.details import INT8_GRAPHS, SAMPLE, STATISTICS


def interface_spec(request: ExportRequest) -> dict[str, Any]:
    """What the ends of a graph depend on besides the graph; nothing where they stay."""
    if request.interface.plain:
        return {}
    steps = request.variant.preprocessing
    return {"interface": asdict(request.interface), "mean": steps.mean, "std": steps.std}


def interface_action(source: str, final: str) -> Callable[[RunContext], dict[str, Any]]:
    """The action that makes ``final`` of ``source``, both FP32 and names of files of the run."""

    def dress(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.export import read_ends
        from swin_deploy.graph.interface import apply_interface

        folder, request = context.folder, context.request
        scratch, steps = folder.scratch(final), request.variant.preprocessing
        apply_interface(folder.file(source), scratch, request.interface, steps, "fp32")
        inputs, outputs = read_ends(scratch)
        exported = tuple(folder.current.stages["export"].details["outputs"])
        if tuple(outputs) != (wanted := request.interface.output_names(exported)):
            raise RuntimeError(f"{final} has the outputs {outputs}, and was to have {wanted}")
        return {"inputs": inputs, "outputs": outputs}

    return dress


LOOKED_AT = 16  # calibration images that have to show something


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """``calibration.json``: the images that INT8 was calibrated on.

    Attributes:
        source: Name of their folder or file.
        seed: That they were drawn with.
        images: Of all that are there.
        left_out: Why some of them could not be read.
    """

    source: str
    seed: int
    images: tuple[SampledImage, ...]
    left_out: tuple[str, ...]


def calibrate_spec(
    request: ExportRequest, calibration: CalibrationSet, kinds: Iterable[str]
) -> dict[str, Any]:
    """What the statistics depend on besides the graph; not the method, they serve all."""
    return {
        "images": calibration.identity(*request.variant.view),
        "recipes": [recipe_for(kind, request.int8.also).as_dict() for kind in kinds],
    }


def calibrate_action(source: str, kinds: tuple[str, ...]) -> Callable[[RunContext], dict[str, Any]]:
    """The action that runs the images through ``source`` and keeps what its tensors hold."""

    def calibrate(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.int8.observe import digest_statistics
        from swin_deploy.graph.int8.thresholds import describe_dead

        calibration = present(context.calibration)  # planned only with one
        require_different(calibration, context.calibration_images(LOOKED_AT))
        unfinished = context.folder.resumable(STATISTICS)
        unread: list[str] = []
        statistics = _collect(context, source, kinds, unfinished, unread.append)
        unfinished.replace(context.folder.scratch(STATISTICS))
        sample = Sample(
            source=calibration.source.name,
            seed=calibration.seed,
            images=calibration.images,
            left_out=tuple(unread),
        )
        write_json(context.folder.scratch(SAMPLE), asdict(sample))
        return {
            "images": len(calibration),
            "found": calibration.found,
            "tensors": len(statistics),
            "statistics": digest_statistics(statistics),
            "notes": [*calibration.notes, *unread, *describe_dead(statistics)],
        }

    return calibrate


def require_different(calibration: CalibrationSet, some: FloatArray) -> None:
    """Check that the images are not copies of one, nor without any content.

    Args:
        calibration: All of them.
        some: Of them, (b, channels, H, W).
    """
    hint = "a few hundred images like those of the deployment"
    if len(calibration) > 1 and len({image.sha256 for image in calibration.images}) == 1:
        raise InputError(
            f"the {len(calibration)} calibration images of {calibration.source} are all the same",
            hint,
        )
    if not np.ptp(some, axis=(1, 2, 3)).any():
        raise InputError(
            f"the calibration images of {calibration.source} are of one colour each, "
            f"by the {len(some)} that were looked at",
            hint,
        )


def int8_spec(
    request: ExportRequest, kind: str, seen: dict[str, Any], labelled: LabelledSet | None
) -> dict[str, Any]:
    """What the INT8 graph of a kind of target depends on besides the graph and the statistics."""
    return {
        "recipe": recipe_for(kind, request.int8.also).as_dict(),
        "method": request.int8.method,
        "keep": request.int8.keep,
        "fp32_nodes": request.fp32_nodes,
        "images": seen,
        "batch": str(request.batch),
        "labelled": labelled and labelled.identity(*request.variant.view),
        "max_drop": request.int8.allowed_drop,
        **interface_spec(request),
    }


def int8_action(kind: str, source: str) -> Callable[[RunContext], dict[str, Any]]:
    """The action that quantises ``source`` for a kind of target, if the result is good enough."""

    def quantise(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.half import find_large, match_nodes
        from swin_deploy.graph.int8.quantize import quantize_graph
        from swin_deploy.graph.interface import apply_interface
        from swin_deploy.pipeline.gate import judge

        graph, request = context.folder.file(source), context.request
        recipe = recipe_for(kind, request.int8.also)
        scratch = context.folder.scratch(INT8_GRAPHS[kind])
        statistics = read_statistics(context.folder.current, context.folder.file)
        thresholds = {n: s.threshold(request.int8.method) for n, s in statistics.items()}
        full: dict[str, float | None] = {}
        if recipe.surrounding == "fp16":
            full |= dict.fromkeys(match_nodes(graph, request.fp32_nodes))
            full |= find_large(graph, (images.images for images in context.inputs))
        result = quantize_graph(
            graph, scratch, thresholds, recipe, request.batch.high, request.int8.keep, full
        )
        judged = judge(context, kind, graph, scratch, thresholds)
        notes = []
        if context.photos is None and context.labelled is None:
            notes.append(
                "INT8 was compared with FP32 on images of its own calibration; --images or "
                "--labelled judge it on others"
            )
        if not request.interface.plain:
            steps = request.variant.preprocessing
            apply_interface(scratch, scratch, request.interface, steps, "int8")
        return asdict(result) | {
            "kind": kind,
            "method": request.int8.method,
            "fp32_nodes": full,
            "notes": notes,
            **judged,
        }

    return quantise


def int8_problems(listing: Path, quantised: dict[str, Any], engine: BuiltEngine) -> list[str]:
    """What of a quantised graph an engine does not do as it was meant, for people.

    Args:
        listing: Of the engine's kernels, as it was built.
        quantised: Details of the stage that made the graph.
        engine: The engine.
    """
    from swin_deploy.engine.cost.kernels import products_not_in_int8
    from swin_deploy.engine.cost.listing import load_listing

    products = quantised["gemms"].values()
    kernels = load_listing(listing)
    problems = []
    if other := products_not_in_int8(kernels, products):
        problems.append(
            f"{len(other)} of {len(products)} quantised products are not multiplied in INT8 by "
            f"this engine: {', '.join(other[:4])}; FP16 may be as fast"
        )
    if (engine.fused_attentions or 0) < len(quantised["attentions"]):
        problems.append(
            f"{engine.fused_attentions} of {len(quantised['attentions'])} quantised attentions "
            "are one kernel each"
        )
    return problems


def _collect(
    context: RunContext,
    source: str,
    kinds: tuple[str, ...],
    cache: Path,
    unread: Callable[[str], None] = lambda text: None,
) -> dict[str, TensorStatistics]:
    """Statistics of every tensor that a recipe of ``kinds`` may quantise."""
    from swin_deploy.graph.int8.observe import collect_statistics
    from swin_deploy.graph.int8.quantize import tensors_to_calibrate

    calibration, view = present(context.calibration), context.request.variant.view
    graph, batch = context.folder.file(source), context.request.batch.high
    recipes = [recipe_for(kind, context.request.int8.also) for kind in kinds]
    tensors = [name for recipe in recipes for name in tensors_to_calibrate(graph, recipe, batch)]
    return collect_statistics(
        graph,
        tensors,
        lambda: read_batches(calibration, *view, batch, unread),
        cache,
        calibration.identity(*view),
        context.advanced,
        total=len(calibration),
        note=context.say,
    )


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
        from swin_deploy.graph.half import HALVES, LIMIT, convert_to_half, find_large, match_nodes
        from swin_deploy.graph.interface import apply_interface

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
            apply_interface(scratch, scratch, request.interface, steps, precision)
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
