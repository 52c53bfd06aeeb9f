"""A small graph, and what calibration counts of the tensors of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.thresholds import TensorStatistics

# Its inner tensor has the batch in the middle, as those of the export form do.
TOY = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[{batch}, 1, 2, 3] image) => (float[{batch}, 2, 2] logits)
<float[3, 2] w = {{1, -2, 3, 4, -5, 6}}, int64[3] shape = {{0, 2, 3}}> {{
    tokens = Reshape(image, shape)
    rows = Transpose <perm = [1, 0, 2]>(tokens)
    hidden = Relu(rows)
    product = MatMul(hidden, w)
    logits = Transpose <perm = [1, 0, 2]>(product)
    axis = Shape(image)
}}"""
IMAGES = np.random.default_rng(0).standard_normal((10, 1, 2, 3)).astype(np.float32)


@pytest.fixture
def toy(tmp_path: Path) -> Callable[[int | str], Path]:
    def make(batch: int | str = "b") -> Path:
        path = tmp_path / f"toy-{batch}.onnx"
        ir.save(ir.from_onnx_text(TOY.format(batch=batch)), path)
        return path

    return make


def batches_of(size: int, images: np.ndarray = IMAGES) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: (images[i : i + size] for i in range(0, len(images), size))


def collect(
    graph: Path,
    batches: Callable[[], Iterable[np.ndarray]],
    cache: Path | None = None,
    identity: dict[str, object] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **more: Any,
) -> dict[str, TensorStatistics]:
    """Of the toy's inner tensor."""
    return collect_statistics(graph, ["hidden"], batches, cache, identity or {}, progress, **more)


def assert_same(
    found: dict[str, TensorStatistics], expected: dict[str, TensorStatistics], factor: int = 1
) -> None:
    assert list(found) == list(expected)
    for name, statistics in expected.items():
        np.testing.assert_array_equal(found[name].counts, statistics.counts * factor)
        assert found[name].images == statistics.images
        assert (found[name].minimum, found[name].maximum) == (
            statistics.minimum,
            statistics.maximum,
        )


def products(graph: Path) -> list[str]:
    """The inputs of all matrix products that are no weights."""
    model = onnx.load(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return [n for n in dict.fromkeys(n for node in nodes for n in node.input) if n not in constants]
