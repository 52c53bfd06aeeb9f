"""ONNX Runtime's engine: the graph after its own fusions, saved, so that loading does no work."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.artifacts.manifest import package_version
from swin_deploy.runners.onnxruntime import open_session, session_options


def build_onnxruntime(source: Path, final: Path) -> str | None:
    """Write the optimised graph to ``final``; returns the runtime's version.

    The level is EXTENDED: its fusions run on any CPU. The level above it, ALL, picks memory layouts
    for the processor at hand, and a file made so is slow or refused on another one.
    """
    import onnxruntime

    options = session_options(threads=None)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(final)
    open_session(source, options)
    return package_version("onnxruntime")
