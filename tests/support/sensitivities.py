"""Digits to calibrate and to measure on, and a measurement of the places of INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.measure.sensitivity.report import SensitivityRequest
from swin_deploy.measure.sensitivity.run import measure_sensitivity

RECIPE = RECIPES["tensorrt"]
DAMAGED = "layers.1.enter.reduction"  # the merge that is given a threshold 1000 times too large


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "calibration" and "held", of 40 and 120 digits in class folders."""
    images, labels = load_mnist_5k(find_mnist_5k())
    train, held = split_held_out(labels)
    folder = tmp_path_factory.mktemp("digits")
    for name, rows in (("calibration", train[::100]), ("held", held[::8][:120])):
        for row in rows:
            path = folder / name / str(labels[row]) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row]).save(path)
    return folder


def request_of(run: Path, digits: Path, out: Path, **settings: Any) -> SensitivityRequest:
    given = {"labelled": digits / "held", "out": out / "report.json"} | settings
    return SensitivityRequest(run=run, calibration=digits / "calibration", **given)


def measure(request: SensitivityRequest) -> dict[str, Any]:
    return measure_sensitivity(request, lambda title: None, lambda text: None)
