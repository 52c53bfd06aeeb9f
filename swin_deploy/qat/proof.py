"""The proof that the graph computes what was trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from swin_deploy.config import LOGITS
from swin_deploy.errors import VerificationError
from swin_deploy.metrics import FloatArray, sqnr_db
from swin_deploy.model.build import Network
from swin_deploy.qat.graphs import GraphMaker
from swin_deploy.qat.network import RoundedNetwork
from swin_deploy.qat.places import find_sites
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

FLOOR_DB = 60.0


def require_same_places(
    maker: GraphMaker,
    model: Network,
    graph: Path,
    thresholds: Mapping[str, float],
    images: FloatArray,
) -> float:
    """Compare the Q/DQ graph with the rounded network, both with FP32 around what is rounded.

    Args:
        maker: Of the graphs.
        model: The fine-tuned network.
        graph: Its FP32 graph.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        images: (b, channels, H, W) float32, normalised.

    Returns:
        SQNR in dB, with the noise of the worst image.

    Raises:
        VerificationError: They differ by more than the rounding of FP32 sums makes them.
    """
    request = maker.request
    recipe = replace(maker.recipe, surrounding="fp32")
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        quantised = Path(folder) / "proof.onnx"
        made = maker.quantise(graph, quantised, thresholds, None)
        with OnnxRuntimeRunner(quantised) as runner:
            candidate = run_all(runner, images)[LOGITS]
    sites = find_sites(graph, recipe, request.batch.high, request.int8.keep)
    network = RoundedNetwork(model, maker.form, sites, made["scales"], recipe)
    with torch.no_grad():
        reference = network(torch.from_numpy(images)).numpy()
    found = sqnr_db(reference, candidate)
    if found < FLOOR_DB:
        raise VerificationError(
            f"the Q/DQ graph is not what was trained: SQNR {found:.1f} dB, needs {FLOOR_DB:.0f} dB"
        )
    return found
