"""Half precision on a runtime that has none: every result rounded, nothing else changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from conftest import POCKET
from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.casts import ComputeInFp32AndRound, round_every_result
from swin_deploy.graph.half import convert_to_half
from swin_deploy.network.judge import FloatArray, sqnr_db
from swin_deploy.pipeline.run import RunResult

BRAIN = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2] image) => (float[2, b] logits)
<bfloat16[b, 2] x, bfloat16[b, 2] t, bfloat16[2, b] u, bfloat16[2, 2] w = {16256, 0, 0, 16448}> {
    [a] x = Cast<to = 16>(image)
    [b] t = MatMul(x, w)
    [c] u = Transpose<perm = [1, 0]>(t)
    [d] logits = Cast<to = 1>(u)
}"""


def test_results_are_rounded_and_moves_are_not(tmp_path: Path) -> None:
    ir.save(ir.from_onnx_text(BRAIN), tmp_path / "in.onnx")
    round_every_result(tmp_path / "in.onnx", tmp_path / "out.onnx")
    model = onnx.load(tmp_path / "out.onnx")
    ops = [node.op_type for node in model.graph.node]
    assert ops == ["Cast", "Cast", "MatMul", "Cast", "Cast", "Transpose", "Cast"]
    image = np.array([[1.01, 1.003]], dtype=np.float32)
    with OnnxRuntimeRunner(tmp_path / "out.onnx") as runner:
        logits = runner.run(image)["logits"]
    bf16 = ml_dtypes.bfloat16
    expected = (image.astype(bf16).astype(np.float32) * [[1, 3]]).astype(bf16).astype(np.float32).T
    np.testing.assert_array_equal(logits, expected)
    assert not np.array_equal(logits, image.T * [[1], [3]])


def test_a_second_run_changes_nothing() -> None:
    model = ir.from_onnx_text(BRAIN)
    assert ComputeInFp32AndRound()(model).modified
    before = [node.op_type for node in model.graph]
    assert not ComputeInFp32AndRound()(model).modified
    assert [node.op_type for node in model.graph] == before


@pytest.fixture(scope="module")
def logits(
    pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, FloatArray]:
    """Of the pocket network in FP32 and in BF16, with the BF16 graph beside."""
    folder = tmp_path_factory.mktemp("bf16")
    full = pocket_run.path / "model.onnx"
    convert_to_half(full, folder / "model.bf16.onnx", "bf16")
    round_every_result(folder / "model.bf16.onnx", folder / "wide.onnx")
    images = make_noise(3, 3, POCKET.config.image_size).images
    found = {}
    for path in (full, folder / "wide.onnx"):
        with OnnxRuntimeRunner(path) as runner:
            found[path.stem] = runner.run(images)["logits"]
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(folder / "model.bf16.onnx")), "CPU")
        found["openvino"] = compiled(images)[0]
    return found


def test_the_rounding_of_bf16_is_not_optimised_away(logits: dict[str, FloatArray]) -> None:
    assert 20 < sqnr_db(logits["model"], logits["wide"]) < 45


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs the openvino extra")
def test_a_runtime_with_bf16_is_as_far_from_fp32(logits: dict[str, FloatArray]) -> None:
    ours, theirs = (sqnr_db(logits["model"], logits[name]) for name in ("wide", "openvino"))
    assert abs(ours - theirs) < 6
