"""What a placement costs in kernels and bytes, compiled to find out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from swin_deploy.cost.subject import COMPILER, open_subjects
from swin_deploy.engine.cost import cost_listing
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.graph.int8.recipe import Recipe
from swin_deploy.sensitivity.report import Cost


def cost_placement(
    source: Path,
    thresholds: Mapping[str, float],
    recipe: Recipe,
    batch: int,
    keep: Sequence[str],
    fp32_nodes: Collection[str],
    progress: Callable[[str], None],
) -> Cost:
    """Quantise as for deployment, with what is around in the recipe's precision, and compile.

    Args:
        source: The FP32 graph.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        recipe: Of the runtime.
        batch: Images that an engine is tuned for.
        keep: Places to leave as they are.
        fp32_nodes: Names of nodes that stay in FP32.
        progress: Hears what takes long.

    Raises:
        EnvironmentMissingError: The compiler is not installed.
        InputError: It refuses the graph, or does not say what it made of it.
        ResourceError: It gave up.
    """
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        path = Path(folder) / "model.int8.onnx"
        quantize_graph(source, path, thresholds, recipe, batch, keep, fp32_nodes)
        (subject,) = open_subjects(path, progress)
    cost = cost_listing(subject.listing, subject.graph)
    return Cost(
        compiler=subject.compiler,
        kernels=cost.totals.kernels,
        fused_attentions=cost.fused_attentions,
        activation_bytes=cost.totals.activation_bytes,
        weight_bytes=cost.totals.weight_bytes,
    )


def why_not_compiled(recipe: Recipe) -> str | None:
    """Why a recipe's graphs are not compiled here; None if they are."""
    if recipe.surrounding != "fp16":
        return f"graphs with {recipe.surrounding} around INT8 are not for {COMPILER.module}"
    if not COMPILER.installed:
        return f"{COMPILER.module} is not installed ({COMPILER.install})"
    return None
