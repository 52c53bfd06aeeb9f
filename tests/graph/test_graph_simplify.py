"""Simplification in a child process: whatever it does, no wrong graph replaces a right one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import POCKET
from swin_deploy.core.errors import InputError, ResourceError, VerificationError
from swin_deploy.core.process import run_in_child
from swin_deploy.graph import simplify
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.network.catalogue import Variant
from swin_deploy.pipeline.run import RunResult


def crash(source: Path, final: Path) -> None:
    print("about to crash")
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(source: Path, final: Path) -> None:
    time.sleep(600)


def perturb(source: Path, final: Path) -> None:
    model = onnx.load(source)
    (tensor,) = (t for t in model.graph.initializer if t.name == "layers.0.blocks.1.attn.bias")
    value = numpy_helper.to_array(tensor) * np.float32(0.999)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, final)


def write_junk(source: Path, final: Path) -> None:
    final.write_bytes(b"\x08\x07")


@pytest.fixture
def images(noise: Callable[[Variant, int], np.ndarray]) -> np.ndarray:
    return noise(POCKET, 2)


def test_a_right_graph_gets_smaller_and_keeps_its_matrix_products(
    pocket_run: RunResult, tmp_path: Path, images: np.ndarray
) -> None:
    source, final = pocket_run.path / "model.raw.onnx", tmp_path / "model.onnx"
    result = simplify_graph(source, final, images, tmp_path / "log")
    assert result.failure == ""
    assert result.nodes_after <= result.nodes_before
    before, after = (
        [n.name for n in onnx.load(p).graph.node if n.op_type == "MatMul"] for p in (source, final)
    )
    assert after == before


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("stub", "reason", "error"),
    [
        (crash, "died of SIGSEGV; its log ends: about to crash", ResourceError),
        (hang, "was stopped after 12 s", ResourceError),
        (perturb, "onnxsim changed logits: SQNR", VerificationError),
    ],
)
def test_a_bad_simplifier_leaves_the_graph_as_exported(
    stub: Callable[[Path, Path], None],
    reason: str,
    error: type[Exception],
    pocket_run: RunResult,
    tmp_path: Path,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simplify, "run_simplifier", stub)
    monkeypatch.setattr(simplify, "TIMEOUT_S", 12.0 if stub is hang else 30.0)
    source, final = pocket_run.path / "model.raw.onnx", tmp_path / "model.onnx"
    result = simplify_graph(source, final, images, tmp_path / "log")
    assert reason in result.failure
    assert final.read_bytes() == source.read_bytes()

    final.write_bytes(b"an earlier good file")
    with pytest.raises(error):
        simplify_graph(source, final, images, tmp_path / "log", strict=True)
    assert final.read_bytes() == b"an earlier good file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "model.onnx"]


@pytest.mark.fault(21)
def test_a_simplifier_that_writes_junk_never_replaces_anything(
    pocket_run: RunResult, tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplify, "run_simplifier", write_junk)
    source, final = pocket_run.path / "model.raw.onnx", tmp_path / "model.onnx"
    result = simplify_graph(source, final, images, tmp_path / "log")
    assert "not a valid ONNX model" in result.failure
    assert final.read_bytes() == source.read_bytes()


def fail_typed() -> None:
    raise InputError("a bad file", "another one")


def fail_untyped() -> None:
    raise KeyError("a bug")


def leave() -> None:
    os._exit(3)


@pytest.mark.fault(21)
def test_a_child_hands_its_own_errors_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a bad file; try: another one"):
        run_in_child(fail_typed, tmp_path / "log", 60)
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        run_in_child(fail_untyped, tmp_path / "log", 60)
    with pytest.raises(ResourceError, match="ended with status 3 and no answer"):
        run_in_child(leave, tmp_path / "log", 60)
