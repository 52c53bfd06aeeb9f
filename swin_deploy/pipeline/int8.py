"""The stages that calibrate and quantise, and the gate that an INT8 graph has to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.data.calibration import CalibrationSet, read_batches
from swin_deploy.data.labelled import LabelledSet
from swin_deploy.data.sample import SampledImage
from swin_deploy.engine.build import BuiltEngine
from swin_deploy.errors import InputError
from swin_deploy.files import write_json
from swin_deploy.graph.int8.recipe import Recipe, recipe_for
from swin_deploy.graph.tensor_statistics import TensorStatistics
from swin_deploy.metrics import FloatArray
from swin_deploy.narrow import present
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.interface import interface_spec
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.names import INT8_GRAPHS, SAMPLE, STATISTICS
from swin_deploy.verify.conversions import read_statistics

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
    config = request.variant.config
    return {
        "images": calibration.identity(config.image_size, request.variant.preprocessing),
        "recipes": [_plain(recipe_for(kind, request.int8.also)) for kind in kinds],
    }


def calibrate_action(source: str, kinds: tuple[str, ...]) -> Callable[[RunContext], dict[str, Any]]:
    """The action that runs the images through ``source`` and keeps what its tensors hold."""

    def calibrate(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.calibration_cache import digest_statistics
        from swin_deploy.graph.tensor_statistics import describe_dead

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

    Raises:
        InputError: They are. Ranges of those fit no other image.
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
    config, steps = request.variant.config, request.variant.preprocessing
    return {
        "recipe": _plain(recipe_for(kind, request.int8.also)),
        "method": request.int8.method,
        "keep": request.int8.keep,
        "fp32_nodes": request.fp32_nodes,
        "images": seen,
        "batch": str(request.batch),
        "labelled": labelled and labelled.identity(config.image_size, steps),
        "max_drop": request.int8.allowed_drop,
        **interface_spec(request),
    }


def int8_action(kind: str, source: str) -> Callable[[RunContext], dict[str, Any]]:
    """The action that quantises ``source`` for a kind of target, if the result is good enough."""

    def quantise(context: RunContext) -> dict[str, Any]:
        from swin_deploy.graph.dress import dress_graph
        from swin_deploy.graph.int8.quantize import quantize_graph
        from swin_deploy.graph.ranges import find_large, match_nodes
        from swin_deploy.pipeline.int8_gate import judge

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
            dress_graph(scratch, scratch, request.interface, steps, "int8")
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
    from swin_deploy.engine.int8_check import products_not_in_int8
    from swin_deploy.engine.listing import load_listing

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


def _plain(recipe: Recipe) -> dict[str, Any]:
    return asdict(recipe) | {"kinds": sorted(recipe.kinds)}


def _collect(
    context: RunContext,
    source: str,
    kinds: tuple[str, ...],
    cache: Path,
    unread: Callable[[str], None] = lambda text: None,
) -> dict[str, TensorStatistics]:
    """Statistics of every tensor that a recipe of ``kinds`` may quantise."""
    from swin_deploy.graph.calibrate import collect_statistics
    from swin_deploy.graph.int8.quantize import tensors_to_calibrate

    calibration, variant = present(context.calibration), context.request.variant
    size, steps = variant.config.image_size, variant.preprocessing
    graph, batch = context.folder.file(source), context.request.batch.high
    recipes = [recipe_for(kind, context.request.int8.also) for kind in kinds]
    tensors = [name for recipe in recipes for name in tensors_to_calibrate(graph, recipe, batch)]
    return collect_statistics(
        graph,
        tensors,
        lambda: read_batches(calibration, size, steps, batch, unread),
        cache,
        calibration.identity(size, steps),
        context.advanced,
        total=len(calibration),
        note=context.say,
    )
