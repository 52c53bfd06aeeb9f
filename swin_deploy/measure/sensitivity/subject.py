"""The run that is measured: its graph, network and images; and what a placement costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.data.labelled import LabelledSet, find_labelled, read_labelled
from swin_deploy.data.samples import ImageSample, find_sample, folder_of, read_batches
from swin_deploy.engine.cost.kernels import cost_listing
from swin_deploy.graph.int8.places import Recipe
from swin_deploy.graph.int8.quantize import quantize_graph
from swin_deploy.measure.cost import COMPILER, open_subjects
from swin_deploy.measure.sensitivity.report import Cost
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import LOGITS, BatchRange
from swin_deploy.network.judge import FloatArray
from swin_deploy.run.finished import require_run

_MOST_AT_ONCE = 16  # images that a graph with a dynamic batch gets at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A run that gives logits.

    Attributes:
        variant: Its network.
        batch: That its engines are for.
        recorded: Its FP32 graph, simplified, as it was exported: image to logits.
        graph: A copy of that, which nobody else changes.
        class_names: By index; empty where they are not known.
        fp32_nodes: Names of nodes that stay in FP32 in its FP16 graph.
        random: Whether its weights are.
    """

    variant: Variant
    batch: BatchRange
    recorded: Recorded
    graph: Path
    class_names: tuple[str, ...]
    fp32_nodes: tuple[str, ...]
    random: bool

    @property
    def at_once(self) -> int:
        """Images to read at a time."""
        return self.batch.high if self.batch.static else min(self.batch.high, _MOST_AT_ONCE)


def open_run_graph(path: Path, folder: Path) -> Subject:
    """Open a run folder, with the hashes of what is read of it compared.

    Args:
        path: The run.
        folder: Of the caller's own, for its graph; it stays as long as the subject is used.
    """
    run = require_run(path)
    if run.outputs != LOGITS:
        raise ConfigError(
            f"{run.path} gives {run.outputs}, and sensitivity is measured on {LOGITS}",
            "swin-deploy export --outputs logits",
        )
    graph = run.file(run.plain_graph)
    return Subject(
        variant=run.variant,
        batch=run.batch,
        recorded=graph,
        graph=graph.copy_to(folder),
        class_names=run.labels,
        fp32_nodes=run.fp32_nodes("fp16"),
        random=run.random,
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """The images to measure on: labelled ones or others."""

    subject: Subject
    images: ImageSample | LabelledSet

    @property
    def identity(self) -> dict[str, Any]:
        """All that images and labels depend on, JSON-able."""
        return self.images.identity(*self.subject.variant.view)

    def read(
        self, note: Callable[[str], None] = lambda text: None
    ) -> Iterator[tuple[FloatArray, NDArray[np.int64] | None]]:
        """Batches, the same ones at every call, with their classes where those are known."""
        how = *self.subject.variant.view, self.subject.at_once, note
        if isinstance(self.images, LabelledSet):
            yield from read_labelled(self.images, *how)
        else:
            for batch in read_batches(self.images, *how):
                yield batch, None

    def batches(self) -> Iterator[FloatArray]:
        """The images of ``read`` alone."""
        return (images for images, _ in self.read())

    def files(self) -> dict[Path, str]:
        """All that ``read`` reads, with the SHA-256 of each."""
        sample = self.images.sample if isinstance(self.images, LabelledSet) else self.images
        if sample.array is not None:
            return {sample.array.path: sha256(sample.array.path)}
        folder = folder_of(sample.source)
        return {folder / image.name: image.sha256 for image in sample.images}


def find_measured(
    subject: Subject, images: Path | None, labelled: Path | None, sorted_folders: bool
) -> Measured | None:
    """The images that were named to measure on, the labelled ones first; None if none were."""
    if labelled is not None:
        classes, names = subject.variant.config.num_classes, subject.class_names
        found = find_labelled(labelled, classes, names, sorted_folders=sorted_folders)
        return Measured(subject, found)
    if images is None:
        return None
    shape = subject.variant.input_shape
    return Measured(subject, find_sample(images, "measurement", shape=shape))


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
