"""ONNX Runtime's engine: the graph after its own fusions, saved, so that loading does no work."""

from __future__ import annotations

import shutil
from pathlib import Path

from swin_deploy.engine.written import Written, written
from swin_deploy.errors import InputError, ResourceError
from swin_deploy.installed import package_version
from swin_deploy.runners.onnxruntime import open_session, session_options


def build_onnxruntime(source: Path, final: Path) -> tuple[str | None, Written]:
    """Write the optimised graph to ``final``; returns the runtime's version, and what it wrote.

    Raises:
        InputError: ONNX Runtime refuses the graph.
        ResourceError: The disk is full.

    The level is EXTENDED: its fusions run on any CPU. The level above it, ALL, picks memory layouts
    for the processor at hand, and a file made so is slow or refused on another one.
    """
    import onnxruntime

    options = session_options(threads=None)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(final)
    try:
        open_session(source, options)
    except InputError as error:
        # How it says that it could not write.
        if "serialization failed" not in str(error.__cause__):
            raise
        free = shutil.disk_usage(final.parent).free
        raise ResourceError(
            f"onnxruntime could not write its engine: {free:,} bytes are free, about "
            f"{source.stat().st_size:,} are needed",
            "free some space, or another disk",
        ) from error
    return package_version("onnxruntime"), written(source, final)
