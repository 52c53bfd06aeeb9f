"""The proof that the graph computes what was trained, place by place.

The logits of both cannot be compared to the precision of FP32: a sum that comes out another way in
its last bit may round to the next integer, which changes what comes after it, and in a deep network
no image is without such a case. So every stretch from one place to the next is compared alone: what
the graph has in a place goes on from there in the rounded network, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from swin_deploy.errors import VerificationError
from swin_deploy.graph.calibrate import observe
from swin_deploy.interface import LOGITS
from swin_deploy.judge import FLOORS, Numbers, difference, judge
from swin_deploy.metrics import FloatArray, sqnr_db
from swin_deploy.model.build import Network
from swin_deploy.qat.graphs import GraphMaker
from swin_deploy.qat.network import RoundedNetwork
from swin_deploy.qat.places import Activation, find_sites
from swin_deploy.records import finite
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner


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

    Raises:
        VerificationError: The graph rounds in other places, or with other numbers.
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

    Raises:
        VerificationError: A place or the logits are below its floor.
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
