"""Conversion to FP16 and BF16 on graphs that can be read, and on a whole network."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from swin_deploy.core.errors import InputError
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.casts import round_every_result
from swin_deploy.graph.half import convert_to_half
from swin_deploy.network.interface import HalfPrecision
from swin_deploy.pipeline.run import RunResult

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 3] image) => (float[b, 2] logits)
<float[b, 2] t,
 float[3, 2] w = {1, 2, 3, 4, 5, 60000}, float[2] s = {1, 1}, float[2] o = {0.1, 0}> {
    t = MatMul(image, w)
    logits = LayerNormalization<axis = -1, stash_type = 1>(t, s, o)
}"""


def convert(
    tmp_path: Path, text: str, precision: HalfPrecision = "fp16", fp32_nodes: tuple[str, ...] = ()
) -> onnx.ModelProto:
    ir.save(ir.from_onnx_text(text), tmp_path / "in.onnx")
    convert_to_half(tmp_path / "in.onnx", tmp_path / "out.onnx", precision, fp32_nodes)
    return onnx.load(tmp_path / "out.onnx")


def test_everything_between_two_casts_is_fp16(tmp_path: Path) -> None:
    model = convert(tmp_path, GRAPH)
    assert [node.op_type for node in model.graph.node] == [
        "Cast",
        "MatMul",
        "LayerNormalization",
        "Cast",
    ]
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    assert types["t"] == onnx.TensorProto.FLOAT16


UNIT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 3] image) => (float[b, 2] logits)
<float[3, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}, float[3, 2] v = {1, 2, 3, 4, 5, 6},
 int64[1] axes = {1}, float low = {1e-12}, float[b, 3] x, float[b, 1] square, float[b, 1] norm,
 float[b, 3] unit> {
    x = MatMul(image, w)
    square = ReduceL2(x, axes)
    norm = Clip(square, low)
    unit = Div(x, norm)
    logits = MatMul(unit, v)
}"""


def test_unit_vectors_are_made_in_fp32(tmp_path: Path) -> None:
    """The norm of these overflows FP16, and the one of zeros is divided by 1e-12."""
    model = convert(tmp_path, UNIT)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert (types["x"], types["square"], types["norm"], types["unit"]) == (half, full, full, full)
    assert [node.op_type for node in model.graph.node].count("Cast") == 4
    image = np.array([[0, 0, 0], [60000, 60000, 0]], dtype=np.float32)
    with OnnxRuntimeRunner(tmp_path / "out.onnx") as runner:
        logits = runner.run(image)["logits"]
    np.testing.assert_allclose(logits, [[0, 0], [4 / 2**0.5, 6 / 2**0.5]], atol=5e-3)


FACTOR = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 3] image) => (float[b, 3] logits)
<int64[1] axes = {1}, float low = {1e-12}, float root = {3}, float[3, 3] w =
 {1, 0, 0, 0, 1, 0, 0, 0, 1}, float[b, 3] x, float[b, 1] norm, float[b, 1] length,
 float[b, 1] factor> {
    x = MatMul(image, w)
    norm = ReduceL2(x, axes)
    length = Clip(norm, low)
    factor = Div(root, length)
    logits = Mul(x, factor)
}"""


def test_the_factor_of_a_vector_of_zeros_is_cut_off(tmp_path: Path) -> None:
    """Three by 1e-12 is beyond FP16, and infinity times zero would be NaN."""
    model = convert(tmp_path, FACTOR)
    assert [node.op_type for node in model.graph.node].count("Clip") == 2
    image = np.array([[0, 0, 0], [3, 4, 0], [1e-4, 0, 0]], dtype=np.float32)
    with OnnxRuntimeRunner(tmp_path / "out.onnx") as runner:
        logits = runner.run(image)["logits"]
    np.testing.assert_allclose(logits, [[0, 0, 0], [1.8, 2.4, 0], [3, 0, 0]], rtol=2e-3)


def test_a_value_without_a_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its outputs have no type"):
        convert(tmp_path, GRAPH.replace("float[b, 2] t,", ""))


def test_names_of_input_and_output_stay(tmp_path: Path) -> None:
    model = convert(tmp_path, GRAPH)
    assert model.graph.input[0].name == "image"
    assert model.graph.output[0].name == "logits"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("60000", "70000", "w holds 70000, which FP16 cannot"),
        ("stash_type = 1", "stash_type = 10", "statistics are not in FP32"),
        ("t = MatMul(image, w)", "u = Cos(image) t = MatMul(u, w)", "no FP16 rule for ::Cos"),
    ],
)
def test_what_fp16_cannot_hold_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(tmp_path, GRAPH.replace(old, new))
    assert not (tmp_path / "out.onnx").exists()


def test_norms_of_a_network_keep_fp32_statistics(pocket_run: RunResult) -> None:
    graph = onnx.load(pocket_run.path / "model.fp16.onnx").graph
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 1 + 2 * 6 + 2 + 1  # patches, two a block, merges, the last
    for node in norms:
        stash = [a.i for a in node.attribute if a.name == "stash_type"]
        assert stash in ([], [onnx.TensorProto.FLOAT])  # FP32 is the default of the operator


def test_a_large_constant_shift_does_not_overflow_the_statistics(tmp_path: Path) -> None:
    """Squares of these activations overflow FP16: only FP32 statistics survive them."""
    text = GRAPH.replace("60000", "600")
    convert(tmp_path, text)
    image = np.array([[20, 20, 20]], dtype=np.float32)
    with OnnxRuntimeRunner(tmp_path / "out.onnx") as runner:
        logits = runner.run(image)["logits"]
    np.testing.assert_allclose(logits, [[-0.9, 1.0]], atol=1e-3)


def test_half_the_bytes(pocket_run: RunResult) -> None:
    full, half = (
        (pocket_run.path / name).stat().st_size for name in ("model.onnx", "model.fp16.onnx")
    )
    assert half < 0.6 * full


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}


def test_bf16_holds_what_fp16_cannot(tmp_path: Path) -> None:
    model = convert(tmp_path, GRAPH.replace("60000", "1e30"), "bf16")
    assert types_of(model)["t"] == onnx.TensorProto.BFLOAT16
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    assert weight.data_type == onnx.TensorProto.BFLOAT16
    expected = np.array([1, 2, 3, 4, 5, 1e30], dtype=ml_dtypes.bfloat16).reshape(3, 2)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), expected)


def test_bf16_cuts_no_factor_off(tmp_path: Path) -> None:
    """Three by 1e-12 is a BF16 number."""
    model = convert(tmp_path, FACTOR, "bf16")
    assert [node.op_type for node in model.graph.node].count("Clip") == 1
    types = types_of(model)
    assert types["norm"] == types["factor"] == onnx.TensorProto.FLOAT
    assert types["factor.bf16"] == onnx.TensorProto.BFLOAT16


NAMED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2] image) => (float[b, 2] logits)
<float[b, 2] t, float[b, 2] u, float[2, 2] w = {300, 0, 0, 300}, float[2, 2] v = {0.001, 0, 0, 0.1}>
{
    [first] t = MatMul(image, w)
    [second] u = MatMul(t, w)
    [third] logits = MatMul(u, v)
}"""


def test_named_nodes_compute_in_fp32_with_their_own_weights(tmp_path: Path) -> None:
    """Behind the second product values exceed FP16; what reads them has to be FP32 as well."""
    image = np.array([[1, 2]], dtype=np.float32)
    convert(tmp_path, NAMED)
    round_every_result(tmp_path / "out.onnx", tmp_path / "rounding.onnx")
    with OnnxRuntimeRunner(tmp_path / "rounding.onnx") as runner:
        assert not np.isfinite(runner.run(image)["logits"]).any()
    model = convert(tmp_path, NAMED, "fp16", ("second", "third"))
    types = types_of(model)
    assert types["t"] == onnx.TensorProto.FLOAT16
    assert types["u"] == onnx.TensorProto.FLOAT
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds == {"w": onnx.TensorProto.FLOAT16, "v": onnx.TensorProto.FLOAT}
    assert [node.op_type for node in model.graph.node].count("Cast") == 3  # image, t, w
    round_every_result(tmp_path / "out.onnx", tmp_path / "rounding.onnx")
    with OnnxRuntimeRunner(tmp_path / "rounding.onnx") as runner:
        np.testing.assert_allclose(runner.run(image)["logits"], [[90, 18000]], rtol=1e-3)
