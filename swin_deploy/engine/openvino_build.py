"""OpenVINO's engine: the graph in its own format, two files that are read without a conversion."""

from __future__ import annotations

import shutil
from pathlib import Path

from swin_deploy.engine.written import Written, written
from swin_deploy.errors import InputError, ResourceError
from swin_deploy.files import refuse_impostors
from swin_deploy.installed import package_version


def build_openvino(source: Path, final: Path) -> tuple[str | None, Written]:
    """Write the graph to ``final`` (.xml) and its weights beside it (.bin).

    Args:
        source: An ONNX file.
        final: Its name ends in .xml; OpenVINO derives that of the weights from it.

    Returns:
        The runtime's version, and what it wrote.

    Raises:
        InputError: OpenVINO cannot read the graph.
        ResourceError: It cannot write the files.

    Weights keep the type that they have in the graph: what ``save_model`` does by itself, FP16,
    would be another network. The code for the processor at hand is made when the engine is opened,
    so the files serve any CPU.
    """
    import openvino

    refuse_impostors(source, "an ONNX model")
    try:
        model = openvino.Core().read_model(str(source))
    except RuntimeError as error:
        raise InputError(f"openvino cannot read {source.name}: {error}") from error
    try:
        openvino.save_model(model, str(final), compress_to_fp16=False)
    except RuntimeError as error:
        free = shutil.disk_usage(final.parent).free
        raise ResourceError(
            f"openvino could not write its engine: {free:,} bytes are free, about "
            f"{source.stat().st_size:,} are needed: {error}",
            "free some space, or another disk",
        ) from error
    return package_version("openvino"), written(source, final, final.with_suffix(".bin"))
