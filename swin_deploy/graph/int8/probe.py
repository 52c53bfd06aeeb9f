"""What quantising a place, or leaving some out, does to the logits.

Measured on ONNX Runtime with FP32 around the places and FP32 products of the rounded numbers, so
that it is the noise of the quantisation alone: no runtime's kernels and no FP16 come into it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from swin_deploy.core.errors import InputError
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.int8.places import GemmKind, Recipe, choose_places, find_places
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.network.interface import LOGITS
from swin_deploy.network.judge import FloatArray, mean_sqnr_db, sqnr_db

PlaceKind = GemmKind | Literal["attention"]


@dataclass(frozen=True, slots=True)
class Effect:
    """A graph with some places quantised, against FP32 on the same images.

    Attributes:
        sqnr_db: As ``judge.sqnr_db``, with the noise of the worst image; infinite where equal.
        mean_sqnr_db: With the mean noise of the images.
        agreeing: Images for which both name the same class.
        right: Images of which the class is right; None without labels.
    """

    sqnr_db: float
    mean_sqnr_db: float
    agreeing: int
    right: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Measures effects on one graph.

    Attributes:
        source: The FP32 graph, which gives logits.
        thresholds: Name of an activation -> the magnitude that becomes 127.
        recipe: Of the runtime; its places, whatever it wants around them.
        batch: Images that an engine is tuned for.
        images: Gives the images, the same ones at every call: (b, channels, H, W) float32 each.
        labels: (n,) int64, the class of each image; None if not known.
        reference: (n, classes), what ``run_logits`` gives for the FP32 graph.
        threads: Of the runtime; None for one per usable core.
    """

    source: Path
    thresholds: Mapping[str, float]
    recipe: Recipe
    batch: int
    images: Callable[[], Iterable[FloatArray]]
    labels: NDArray[np.int64] | None
    reference: FloatArray
    threads: int | None = None

    def measure(self, keep: Sequence[str] = (), only: Sequence[str] | None = None) -> Effect:
        """Quantise what the recipe chooses, less ``keep``, or of that only ``only``."""
        how = self.thresholds, self.recipe, self.batch
        with quantised_plainly(self.source, *how, keep, only) as path:
            logits = run_logits(path, self.images(), self.threads)
        return compare_logits(self.reference, logits, self.labels)


@contextmanager
def quantised_plainly(
    source: Path,
    thresholds: Mapping[str, float],
    recipe: Recipe,
    batch: int,
    keep: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Iterator[Path]:
    """A graph for the block whose only noise is that of its quantised places.

    Arguments are those of ``Probe`` and ``choose_places``.
    """
    plain = replace(recipe, surrounding="fp32", integer_bias=False)
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        path = Path(folder) / source.name
        quantize_graph(source, path, thresholds, plain, batch, keep, only=only)
        yield path


def list_places(
    source: Path, recipe: Recipe, batch: int, keep: Sequence[str] = ()
) -> dict[str, PlaceKind]:
    """The places that a recipe quantises, in the order in which they run.

    Arguments are those of ``Probe``, and ``keep`` that of ``choose_places``.
    """
    graph = ir.load(source).graph
    placement = choose_places(find_places(graph), recipe, batch, keep)
    order = {node: index for index, node in enumerate(graph)}
    found: list[tuple[int, str, PlaceKind]] = [
        *((order[gemm.node], gemm.name, gemm.kind) for gemm in placement.gemms),
        *((order[a.mix], a.name, "attention") for a in placement.attentions),
    ]
    return {name: kind for _, name, kind in sorted(found)}


def run_logits(path: Path, images: Iterable[FloatArray], threads: int | None = None) -> FloatArray:
    """(n, classes) float32, of all images; INT8 products of the graph are simulated in FP32.

    Args:
        path: The graph.
        images: (b, channels, H, W) float32 each.
        threads: Of the runtime, which may change last bits; None for one per usable core.

    Raises:
        InputError: The graph gives something else, or an output is not finite, or there are no
            images.
    """
    parts = []
    with OnnxRuntimeRunner(path, threads, simulated_int8=True) as runner:
        for batch in images:
            outputs = run_all(runner, batch)
            if set(outputs) != {LOGITS}:
                raise InputError(f"{path} gives {', '.join(outputs)}, not {LOGITS}")
            parts.append(outputs[LOGITS])
    if not parts:
        raise InputError("there are no images to measure on")
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise InputError(f"{path} gives logits that are not finite", "other images or weights")
    return logits


def compare_logits(
    reference: FloatArray, logits: FloatArray, labels: NDArray[np.int64] | None
) -> Effect:
    """The effect of what made ``logits`` of the ``reference``, both (n, classes) and finite."""
    if not reference.any():
        raise InputError("the FP32 logits of all images are zero", "trained weights")
    return Effect(
        sqnr_db=sqnr_db(reference, logits),
        mean_sqnr_db=mean_sqnr_db(reference, logits),
        agreeing=int((reference.argmax(axis=1) == logits.argmax(axis=1)).sum()),
        right=None if labels is None else int((logits.argmax(axis=1) == labels).sum()),
    )
