"""A network's graphs in every precision, made by the stages of an export, and calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from swin_deploy.graph.casts import round_every_result
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.int8 import CalibrationMethod
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.quantize import quantize_graph, tensors_to_calibrate
from swin_deploy.graph.int8.thresholds import TensorStatistics
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import HALF_PRECISIONS, BatchRange, HalfPrecision
from swin_deploy.network.judge import FloatArray

FORMS: dict[str, FormName] = {"onnxruntime": "packed", "tensorrt": "slabs"}
BATCH = 1  # at which TensorRT's recipe quantises most


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A simplified FP32 graph in one form, and what its tensors hold on the calibration images.

    Attributes:
        graph: The file.
        statistics: Of every tensor that the recipe may quantise.
        kind: Of the recipe.
    """

    graph: Path
    statistics: dict[str, TensorStatistics]
    kind: str

    def quantised(self, method: CalibrationMethod, final: Path) -> None:
        """Write the INT8 graph of a method."""
        thresholds = {name: s.threshold(method) for name, s in self.statistics.items()}
        quantize_graph(self.graph, final, thresholds, RECIPES[self.kind], BATCH)


def write_simplified(
    eager: nn.Module, config: NetworkConfig, form: FormName, images: FloatArray, path: Path
) -> None:
    """The FP32 graph of a network, for one image.

    Args:
        eager: The network.
        config: Its architecture.
        form: Of its attentions.
        images: (b, channels, H, W), of which the first is what the simplified graph is compared on.
        path: Gets the graph.
    """
    raw = path.with_suffix(".raw.onnx")
    export_graph(freeze(eager, form), config, BatchRange(), raw)
    simplify_graph(raw, path, images[:1], path.with_suffix(".log"), strict=True)


def calibrate(graph: Path, kind: str, images: FloatArray) -> Calibrated:
    """Run (b, channels, H, W) images through a graph, one by one."""
    tensors = tensors_to_calibrate(graph, RECIPES[kind], BATCH)
    statistics = collect_statistics(graph, tensors, lambda: np.split(images, len(images)), None, {})
    return Calibrated(graph, statistics, kind)


def write_halves(full: Path) -> Iterator[tuple[HalfPrecision, Path]]:
    """The graphs of 16 bits, beside the FP32 one."""
    for precision in HALF_PRECISIONS:
        path = full.with_suffix(f".{precision}.onnx")
        convert_to_half(full, path, precision)
        yield precision, path


def rounded(graph: Path) -> Path:
    """A graph in half precision as ONNX Runtime computes it with every result rounded."""
    path = graph.with_suffix(".rounding.onnx")
    round_every_result(graph, path)
    return path
