"""The graphs of a network that is fine-tuned: FP32, and INT8 with fixed thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.data.inputs import make_noise
from swin_deploy.export_form.choice import FormName, choose_form
from swin_deploy.export_form.entry import freeze
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.graph.int8.recipe import Recipe, recipe_for
from swin_deploy.graph.ranges import find_large
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.metrics import FloatArray
from swin_deploy.model.build import Network
from swin_deploy.qat.request import QatRequest


@dataclass(frozen=True, slots=True)
class GraphMaker:
    """Makes the graphs of one request.

    Attributes:
        request: What is asked for.
        log: Gets what the simplifier prints.
        note: Is told what the user has to know.
    """

    request: QatRequest
    log: Path
    note: Callable[[str], None]

    @property
    def recipe(self) -> Recipe:
        """Of the kind of target."""
        return recipe_for(self.request.kind, self.request.int8.also)

    @property
    def form(self) -> FormName:
        """Of the attentions."""
        return choose_form({self.request.kind}, self.request.batch.static)

    def export(self, model: Network, final: Path) -> None:
        """Write the FP32 graph of a network, simplified, to ``final``."""
        config, batch = self.request.variant.config, self.request.batch
        raw = final.with_suffix(".raw.onnx")
        export_graph(freeze(model, self.form), config, batch, raw)
        noise = make_noise(batch.high, config.in_channels, config.image_size)
        result = simplify_graph(raw, final, noise.images, self.log)
        raw.unlink()
        if result.failure:
            self.note(f"the graph is not simplified: {result.failure}")

    def quantise(
        self,
        graph: Path,
        final: Path,
        thresholds: Mapping[str, float],
        images: Iterable[FloatArray] | None,
    ) -> dict[str, Any]:
        """Write ``graph`` with Q/DQ pairs to ``final``.

        Args:
            graph: From ``export``.
            final: Replaced if it exists.
            thresholds: Name of an activation -> the magnitude that becomes 127.
            images: To find the nodes that cannot compute in FP16 with; None to leave all that is
                not quantised in FP32, whatever the recipe.

        Returns:
            The scales by name, and the names of what was quantised, left, or kept in FP32.
        """
        recipe, full = self.recipe, dict[str, float]()
        if images is None:
            recipe = replace(recipe, surrounding="fp32")
        elif recipe.surrounding == "fp16":
            full = find_large(graph, images)
        keep, batch = self.request.int8.keep, self.request.batch.high
        made = quantize_graph(graph, final, thresholds, recipe, batch, keep, full)
        return {
            "scales": made.scales,
            "gemms": made.gemms,
            "attentions": made.attentions,
            "left": made.left,
            "fp32_nodes": full,
        }
