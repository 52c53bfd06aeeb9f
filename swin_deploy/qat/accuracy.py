"""How many photos of a labelled set a graph gets right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swin_deploy.interface import LOGITS
from swin_deploy.metrics import wilson_interval
from swin_deploy.qat.data import LabelledPhotos
from swin_deploy.runners.base import run_all
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

_AT_A_TIME = 64


def measure_accuracy(graph: Path, photos: LabelledPhotos, simulated: bool) -> dict[str, Any]:
    """Top-1 of an ONNX file on ONNX Runtime, with its 95 % interval; shares are 0 to 1.

    Args:
        graph: The file.
        photos: To classify.
        simulated: As ``simulated_int8`` of ``OnnxRuntimeRunner``.

    Raises:
        InputError: A photo cannot be read.
    """
    right = 0
    with OnnxRuntimeRunner(graph, simulated_int8=simulated) as runner:
        for images, labels in photos.read(range(len(photos)), _AT_A_TIME):
            guesses = run_all(runner, images)[LOGITS].argmax(axis=1)
            right += int((guesses == labels).sum())
    low, high = wilson_interval(right, len(photos))
    return {
        "right": right,
        "images": len(photos),
        "top1": right / len(photos),
        "interval": [low, high],
    }
