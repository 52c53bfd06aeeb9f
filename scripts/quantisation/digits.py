"""The accuracy of swin_pocket, a trained network, on digits that it was not trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from quantisation.graphs import (
    FORMS,
    calibrate,
    rounded,
    write_halves,
    write_simplified,
)
from quantisation.runtimes import Call, on_onnxruntime, on_openvino, run_each
from swin_deploy.data.images import load_photo
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.judge import FloatArray, sqnr_db, wilson_interval
from swin_deploy.network.model.build import load_model

VARIANT = VARIANTS["swin_pocket"]
WEIGHTS = bundled_weights("swin_pocket")
CALIBRATED_ON = 200  # of the training part


def digits_table(held_out: int | None = None) -> Iterator[str]:
    """Markdown, line by line: how many held-out digits each graph gets right on each runtime.

    Args:
        held_out: At most so many of them; None for all 1000.

    Raises:
        EnvironmentMissingError: The digits are not installed.
    """
    pixels, labels = load_mnist_5k(find_mnist_5k())
    training, held = split_held_out(labels)
    step = len(training) // CALIBRATED_ON  # they are sorted by class: take all alike
    seen, rows = training[::step][:CALIBRATED_ON], held[:: len(held) // (held_out or len(held))]
    calibration, images = as_inputs(pixels[seen]), as_inputs(pixels[rows])
    eager = load_model(VARIANT.config, WEIGHTS, seed=0)
    with torch.inference_mode():
        reference = eager(torch.from_numpy(images)).numpy()
    yield f"| graph | method | {' | '.join(_columns('ONNX Runtime') + _columns('OpenVINO'))} |"
    yield f"|---|---|{'---:|' * 6}"
    right = reference.argmax(axis=1) == labels[rows]
    yield _line("eager PyTorch", "", [[*_accuracy(right), ""], ["", "", ""]])
    with tempfile.TemporaryDirectory() as name:
        for graph, method, calls in _graphs(eager, calibration, Path(name)):
            cells = []
            for call in calls:
                logits = run_each(call, images)
                right = logits.argmax(axis=1) == labels[rows]
                cells.append([*_accuracy(right), f"{sqnr_db(reference, logits):.1f}"])
            yield _line(graph, method, cells)


def _graphs(
    eager: torch.nn.Module, calibration: FloatArray, folder: Path
) -> Iterator[tuple[str, str, tuple[Call, Call]]]:
    """Name, method, and the calls of both runtimes."""
    fulls = {kind: folder / f"{kind}.onnx" for kind in FORMS}
    for kind, full in fulls.items():
        write_simplified(eager, VARIANT.config, FORMS[kind], calibration, full)
    full = fulls["tensorrt"]
    yield "FP32", "", (on_onnxruntime(full), on_openvino(full, "f32"))
    for precision, half in write_halves(full):
        yield precision.upper(), "", (on_onnxruntime(rounded(half)), on_openvino(half, "f32"))
    for kind, full in fulls.items():
        found = calibrate(full, kind, calibration)
        for method in CALIBRATION_METHODS:
            whole = folder / f"{kind}.int8.onnx"
            found.quantised(method, whole)
            there = RECIPES[kind].simulated
            here = on_onnxruntime(rounded(whole) if there else whole, simulated=there)
            calls = (here, on_openvino(whole, "f32"))
            yield f"INT8 for {'CPUs' if kind == 'onnxruntime' else 'TensorRT'}", method, calls


def as_inputs(pixels: NDArray[np.uint8]) -> FloatArray:
    """Digits (n, 28, 28) as PNG files, read like any photo of a deployed network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digit.png"
        found = []
        for digit in pixels:
            Image.fromarray(digit).save(path)
            found.append(load_photo(path, VARIANT.config.image_size, VARIANT.preprocessing))
    return np.stack(found)


def _columns(runtime: str) -> list[str]:
    return [f"{runtime}, %", "95 %", "worst dB"]


def _accuracy(right: NDArray[np.bool_]) -> list[str]:
    low, high = wilson_interval(int(right.sum()), len(right))
    return [f"{100 * right.mean():.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]


def _line(graph: str, method: str, cells: list[list[str]]) -> str:
    return f"| {' | '.join([graph, method, *(cell for part in cells for cell in part)])} |"
