"""The README of a bundle, for the person at the device."""

from __future__ import annotations

from pathlib import Path
from string import Template

import swin_deploy
from swin_deploy.bundle.source import never_run_note
from swin_deploy.engine.target import Target
from swin_deploy.precisions import Precision
from swin_deploy.run.finished import Run
from swin_deploy.runtime.shipped import PREFERRED

_TEMPLATE = Path(__file__).with_name("guide.template.md")
_NEEDS = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT with its Python module `{module}`, and the NVIDIA GPU that it is for",
}


def write_guide(run: Run, target: Target, precisions: tuple[Precision, ...]) -> bytes:
    """The text, in UTF-8.

    Args:
        run: What is shipped.
        target: What engines are built for.
        precisions: Of the graphs.
    """
    height, width = run.config.image_size
    random = "\n**Its weights are random: it is for trying the way, and predicts nothing.**\n"
    return (
        Template(_TEMPLATE.read_text(encoding="utf-8"))
        .substitute(
            network=run.config.name,
            target=target.name,
            about=target.about,
            image=f"{height}x{width}",
            batch=run.batch,
            precisions=", ".join(precisions),
            preferred=next(p for p in PREFERRED if p in precisions),
            needs=_NEEDS[target.kind].format(module=target.module),
            install=_install(target),
            weights=run.header.weights.source,
            random=random if run.random else "",
            never_run="" if (note := never_run_note(run, target)) is None else f"\n**{note}**\n",
            predict=_PREDICT if run.outputs == "logits" else "",
            call=_CLASSES if run.outputs == "logits" else _MAPS,
            version=swin_deploy.__version__,
        )
        .encode()
    )


def _install(target: Target) -> str:
    """How all of it comes to the device, in Markdown."""
    if target.platform == "linux-aarch64":
        return (
            "All of it comes with JetPack; what is missing, "
            "`sudo apt install nvidia-jetpack python3-pil` brings."
        )
    return f"All of it: `python3 -m pip install numpy pillow {target.distribution}`."


_PREDICT = """
    python3 swin.pyz predict photo.jpg        # the five best classes; folders, or - for a list
    python3 swin.pyz predict folder --format csv --annotate /tmp/pictures
"""
_CLASSES = """    prediction = engine(["photo.jpg", array_of_pixels])
    print(prediction.labels, prediction.scores)"""
_MAPS = """    maps = engine.maps(["photo.jpg", array_of_pixels])
    print({name: array.shape for name, array in maps.items()})"""
