"""An evaluation of a trained run, of its FP16 graph and of a damaged one, on held-out digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from conftest import TRAINED, Silent
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.run import evaluate_candidates
from swin_deploy.network.interface import BatchRange


@pytest.fixture(scope="session")
def trained_run(trained_once: Callable[..., Path]) -> Path:
    """A run of the trained network. Tests must not change what the manifest lists."""
    return trained_once(batch=BatchRange(low=1, high=16), targets=("cpu",))


@pytest.fixture(scope="session")
def swapped_graph(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its FP32 graph with two classes of the head swapped, ``damaged.onnx`` in no run."""
    model = onnx.load(trained_run / "model.onnx")
    names = {t.name: t for t in model.graph.initializer if "head" in t.name}
    assert names
    for tensor in names.values():
        array = numpy_helper.to_array(tensor).copy()
        axis = array.shape.index(10)
        order = [0, 1, 2, 8, 4, 5, 6, 7, 3, 9]
        tensor.CopyFrom(numpy_helper.from_array(array.take(order, axis), tensor.name))
    path = tmp_path_factory.mktemp("elsewhere") / "deeper" / "and" / "deeper" / "damaged.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def evaluation_of(
    trained_run: Path, swapped_graph: Path, held_out: Path, tmp_path: Path
) -> Callable[..., EvaluateRequest]:
    def make(**changes: Any) -> EvaluateRequest:
        request = EvaluateRequest(
            artifacts=(trained_run, trained_run / "model.fp16.onnx", swapped_graph),
            data=held_out,
            variant=TRAINED,
            out=tmp_path / "evaluate.json",
        )
        return replace(request, **changes)

    return make


def evaluate(request: EvaluateRequest, listener: Silent | None = None) -> dict[str, Any]:
    said = listener or Silent()
    return evaluate_candidates(request, said.started, said.note)


@pytest.fixture(scope="session")
def expected_evaluation(
    trained_run: Path, swapped_graph: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What one process finds of the three."""
    out = tmp_path_factory.mktemp("expected") / "evaluate.json"
    artifacts = (trained_run, trained_run / "model.fp16.onnx", swapped_graph)
    return evaluate(EvaluateRequest(artifacts=artifacts, data=held_out, variant=TRAINED, out=out))


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """All but who did the work, where the report is, and what was said on the way."""
    return {k: v for k, v in report.items() if k not in ("work", "report", "notes")}


def options(request: EvaluateRequest) -> list[str]:
    return [
        *("evaluate", *map(str, request.artifacts), "--data", str(request.data)),
        *("--variant", "swin_pocket", "--out", str(request.out)),
    ]
