"""The graphs of a network that is fine-tuned, and the proof that they compute what was trained.

The logits of both cannot be compared to the precision of FP32: a sum that comes out another way in
its last bit may round to the next integer, which changes what comes after it, and in a deep network
no image is without such a case. So every stretch from one place to the next is compared alone: what
the graph has in a place goes on from there in the rounded network, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from swin_deploy.core.errors import VerificationError
from swin_deploy.core.records import finite
from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import find_large
from swin_deploy.graph.int8.observe import observe
from swin_deploy.graph.int8.places import Recipe, recipe_for
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.network.export_form import FormName, choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import LOGITS
from swin_deploy.network.judge import FLOORS, FloatArray, Numbers, difference, judge, sqnr_db
from swin_deploy.network.model.build import Network
from swin_deploy.pipeline.qat.network import Activation, RoundedNetwork, find_sites
from swin_deploy.pipeline.qat.request import QatRequest


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


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far graph and rounded network agree, both with FP32 around what is rounded.

    Attributes:
        place: Where they agree least.
        place_db: How far they do there, from the place before.
        logits_db: From the image to the logits, on the image in the middle.
    """

    place: str
    place_db: float
    logits_db: float


def require_same_places(
    maker: GraphMaker,
    model: Network,
    graph: Path,
    thresholds: Mapping[str, float],
    images: FloatArray,
) -> Agreement:
    """Compare the Q/DQ graph with the rounded network.

    Args:
        maker: Of the graphs.
        model: The fine-tuned network.
        graph: Its FP32 graph.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        images: (b, channels, H, W) float32, normalised.
    """
    request, recipe = maker.request, replace(maker.recipe, surrounding="fp32")
    sites = find_sites(graph, recipe, request.batch.high, request.int8.keep)
    names = list(dict.fromkeys(site.tensor for site in sites.activations))
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        quantised = Path(folder) / "proof.onnx"
        made = maker.quantise(graph, quantised, thresholds, None)
        _require_rounded(quantised, names)
        network = RoundedNetwork(model, maker.form, sites, made["scales"], recipe)
        return compare_places(network, observe(quantised, [*names, LOGITS], quantised), images)


def compare_places(network: RoundedNetwork, graph: Path, images: FloatArray) -> Agreement:
    """Run both on ``images`` and compare.

    Args:
        network: The rounded one.
        graph: Q/DQ graph whose outputs are the values of all places, and the logits.
        images: (b, channels, H, W) float32, normalised.
    """
    worst: dict[str, Numbers] = {}
    alone = []
    with OnnxRuntimeRunner(graph, simulated_int8=True) as runner, torch.no_grad():
        for image in images:
            batch = np.repeat(image[None], runner.batch.low, axis=0)
            expected, rows = runner.run(batch), torch.from_numpy(batch)
            alone.append((network(rows).numpy(), expected[LOGITS]))

            def compare(name: str, found: Tensor, of: dict[str, Any] = expected) -> Tensor:
                given = torch.from_numpy(of[name]).reshape(found.shape)
                numbers = difference(given.numpy()[None], found.numpy()[None])
                worst[name] = min(numbers, worst.get(name, numbers), key=attrgetter("sqnr_db"))
                return given

            def watch(site: Activation, x: Tensor) -> Tensor:
                return compare(site.tensor, x)

            network.watch = watch
            compare(LOGITS, network(rows))
            network.watch = None
    place, least = min(worst.items(), key=lambda item: item[1].sqnr_db)
    if reason := judge(least, FLOORS["place"]["fp32"]):
        raise VerificationError(
            f"the INT8 graph is not what was trained: {reason} in {place}",
            details={"places_db": finite({name: one.sqnr_db for name, one in worst.items()})},
        )
    logits = [sqnr_db(reference, candidate) for reference, candidate in alone]
    return Agreement(place, round(least.sqnr_db, 1), round(float(np.median(logits)), 1))


def _require_rounded(graph: Path, names: list[str]) -> None:
    """The graph rounds these activations and no others."""
    nodes = onnx.load(graph).graph.node
    rounded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    if rounded != set(names):
        raise VerificationError(
            f"the INT8 graph rounds {len(rounded)} activations, the training {len(names)}: "
            f"{', '.join(sorted(rounded ^ set(names))[:5])}"
        )
