"""How large the values of a graph get, and which nodes therefore cannot compute in FP16."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.errors import ConfigError
from swin_deploy.graph.half import FP16_MAX, FP32_OPERATORS
from swin_deploy.metrics import FloatArray
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

LIMIT = FP16_MAX / 4  # room for images with values four times as large as those that were seen
_PEAK = ".peak"
_FP32_MAX = float(np.finfo(np.float32).max)


def find_large(source: Path, images: Iterable[FloatArray]) -> dict[str, float]:
    """The nodes that have to stay in FP32: those that give, or read, a value beyond ``LIMIT``.

    A node that reads such a value is one of them because FP16 could not hold what it reads. Values
    of ``FP32_OPERATORS`` do not count: they are FP32 anyway, and cut off on their way to FP16.

    Args:
        source: An FP32 graph.
        images: Normalised, (b, channels, H, W) float32 each, at least one.

    Returns:
        Name -> the largest magnitude among what it gives and reads, in the order of the graph.
    """
    peaks = measure_peaks(source, images)
    found: dict[str, float] = {}
    for node in ir.load(source).graph:
        names = [value.name for value in (*node.inputs, *node.outputs) if value is not None]
        largest = max((peaks.get(name or "", 0.0) for name in names), default=0.0)
        if largest >= LIMIT and node.op_type not in FP32_OPERATORS:
            found[node.name or ""] = largest
    return found


def measure_peaks(source: Path, images: Iterable[FloatArray]) -> dict[str, float]:
    """The largest magnitude of every float value that FP16 would have to hold.

    The graph computes them itself, one number per value, each right behind the value and in an
    order that frees it, so that nothing large has to be kept.

    Args:
        source: An FP32 graph.
        images: As ``find_large`` takes them.

    Returns:
        Name of the value -> its peak over all images; the largest FP32 number where it is NaN.
    """
    model = ir.load(source)
    measured = _add_peaks(model.graph)
    peaks = dict.fromkeys(measured, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peaks.onnx"
        ir.save(model, path)
        with OnnxRuntimeRunner(path, sparing=True) as runner:
            for batch in images:
                outputs = run_all(runner, batch)
                for name in measured:
                    peak = np.nan_to_num(outputs[name + _PEAK], nan=_FP32_MAX, posinf=_FP32_MAX)
                    peaks[name] = max(peaks[name], float(peak.max()))
    return peaks


def _add_peaks(graph: ir.Graph) -> list[str]:
    one = ir.Value(name=f"shape{_PEAK}", const_value=ir.tensor(np.array([1], dtype=np.int64)))
    graph.register_initializer(one)
    measured = []
    for node in list(graph):
        if node.op_type in FP32_OPERATORS:
            continue
        for value in node.outputs:
            if value.dtype != DataType.FLOAT or (not value.uses() and not value.is_graph_output()):
                continue
            name = value.name or ""
            size = ir.node("Abs", [value], name=f"{name}/Abs{_PEAK}")
            peak = ir.node("ReduceMax", size.outputs, {"keepdims": 0}, name=f"{name}/Max{_PEAK}")
            row = ir.node("Reshape", [peak.outputs[0], one], name=f"{name}/Reshape{_PEAK}")
            row.outputs[0].name, row.outputs[0].dtype = name + _PEAK, DataType.FLOAT
            row.outputs[0].shape = ir.Shape([1])
            graph.insert_after(node, [size, peak, row])
            graph.outputs.append(row.outputs[0])
            measured.append(name)
    return measured


def match_nodes(source: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the nodes of a graph that any pattern fits, in the order of the graph.

    Args:
        source: The graph.
        patterns: Names, or patterns with ``*``, ``?`` and ``[...]``.

    Raises:
        ConfigError: A pattern fits no node; names the nearest nodes.
    """
    names = [node.name or "" for node in ir.load(source).graph] if patterns else []
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
            raise ConfigError(
                f"no node of {source.name} is called {pattern!r}",
                f"--fp32-nodes {' or '.join(near) or names[0]}",
            )
    return tuple(n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns))
