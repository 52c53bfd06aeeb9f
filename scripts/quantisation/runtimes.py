"""A graph's logits on the runtimes of a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.engine.runners.openvino import runtime_settings
from swin_deploy.network.judge import FloatArray

Call = Callable[[FloatArray], FloatArray]  # images (b, channels, H, W) -> logits (b, classes)


def on_onnxruntime(graph: Path, spinning: bool = True, simulated: bool = False) -> Call:
    """A call of ONNX Runtime, a thread per usable core.

    Args:
        graph: ONNX file.
        spinning: Whether they wait busily.
        simulated: As ``simulated_int8`` of ``OnnxRuntimeRunner``.
    """
    options = session_options(None, simulated)
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = open_session(graph, options)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]  # type: ignore[no-any-return]


def on_openvino(graph: Path, precision: str | None = None) -> Call:
    """A call of OpenVINO, a thread per usable core.

    Args:
        graph: ONNX file.
        precision: Its hint for what is not quantised: "f32" for FP32; None for its own choice,
            which is BF16 on a CPU that has it.
    """
    import openvino

    settings = runtime_settings("int8", None)  # without a hint, as it is left to itself
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda images: request.infer([images])[0]  # type: ignore[no-any-return]


def run_each(call: Call, images: FloatArray) -> FloatArray:
    """Logits of any number of images, one at a time."""
    return np.concatenate([call(image).copy() for image in np.split(images, len(images))])
