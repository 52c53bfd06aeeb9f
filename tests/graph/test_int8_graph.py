"""Q/DQ pairs: where they go, with which scales, and what may not go wrong unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from conftest import COSINE, POCKET, POCKET_VIT
from swin_deploy.core.errors import ConfigError, InputError, VerificationError
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.casts import round_every_result
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.int8.places import RECIPES, Recipe, choose_places, find_places
from swin_deploy.graph.int8.quantize import quantize_graph, tensors_to_calibrate
from swin_deploy.graph.int8.thresholds import SMALLEST_SCALE, round_scale
from swin_deploy.graph.structure import require_converted
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model

MLP = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[2, 2] image) => (float[2, 2] logits)
<float[2, 2] w = {1.27, 0, -0.5, 0.254}, float[2] b = {0.25, -1}, float[2, 2] x, float[2, 2] y,
 float[2, 2] v = {1, 2, 3, 4}> {
    [fc1] x = MatMul(image, w)
    [bias] y = Add(x, b)
    [fc2] logits = MatMul(y, v)
}"""
CPU = RECIPES["onnxruntime"]
GPU = RECIPES["tensorrt"]


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    model = ir.from_onnx_text(MLP)
    for node in model.graph:
        node.name = {"fc1": "blocks.0.mlp.fc1/MatMul", "fc2": "blocks.0.mlp.fc2/MatMul"}.get(
            node.name or "", "blocks.0.mlp.fc1/Add"
        )
    path = tmp_path / "mlp.onnx"
    ir.save(model, path)
    return path


def exported(variant: Variant, form: FormName, tmp_path: Path, batch: int = 2) -> Path:
    path = tmp_path / "model.onnx"
    network = freeze(build_model(variant.config, 0), form)
    export_graph(network, variant.config, BatchRange(low=batch, high=batch), path)
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_a_product_reads_pairs_and_integers(mlp: Path, tmp_path: Path) -> None:
    thresholds = {"image": 2.54, "y": 12.7}
    result = quantize_graph(mlp, tmp_path / "q.onnx", thresholds, CPU, 2)
    assert [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node] == [
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"),
        *("DequantizeLinear", "Add", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear"),
        "MatMul",
    ]
    values = arrays(tmp_path / "q.onnx")
    assert values["image.scale"] == pytest.approx(0.02, rel=1e-3)
    np.testing.assert_allclose(values["w.scale"], [0.01, 0.002], rtol=1e-3)  # of each column
    np.testing.assert_array_equal(values["w.int8"], [[127, 0], [-50, 127]])
    steps = values["w.scale"] * values["image.scale"]
    np.testing.assert_allclose(values["b.int32"] * steps, [0.25, -1], atol=steps.max())
    assert values["b.int32"].dtype == np.int32
    assert "w" not in values  # the file holds the integers alone
    assert result.gemms == {
        "blocks.0.mlp.fc1": "blocks.0.mlp.fc1/MatMul",
        "blocks.0.mlp.fc2": "blocks.0.mlp.fc2/MatMul",
    }


def test_scales_are_numbers_of_fp16_and_reach_the_threshold(mlp: Path, tmp_path: Path) -> None:
    quantize_graph(mlp, tmp_path / "q.onnx", {"image": 0.1, "y": 1e-9}, CPU, 2)
    values = arrays(tmp_path / "q.onnx")
    for name in ("image.scale", "y.scale", "w.scale"):
        assert (values[name].astype(np.float16) == values[name]).all()
        assert (values[name] > 0).all()
    assert 0.1 / 127 <= values["image.scale"] < 0.1 / 127 * 1.001


@pytest.mark.parametrize("threshold", [None, 0.0, float("nan"), float("inf"), -1.0])
def test_an_activation_without_a_range_is_refused(
    mlp: Path, tmp_path: Path, threshold: float | None
) -> None:
    thresholds = {"image": 1.0} | ({} if threshold is None else {"y": threshold})
    with pytest.raises(InputError, match=r"y has no range"):
        quantize_graph(mlp, tmp_path / "q.onnx", thresholds, CPU, 2)
    assert not (tmp_path / "q.onnx").exists()


def test_places_are_kept_by_name_or_pattern(mlp: Path, tmp_path: Path) -> None:
    kept = quantize_graph(mlp, tmp_path / "q.onnx", {"image": 1.0}, CPU, 2, ("*.fc2",))
    assert list(kept.gemms) == ["blocks.0.mlp.fc1"]
    assert kept.left == ("blocks.0.mlp.fc2",)
    with pytest.raises(ConfigError, match=r"called '\*\.fc3'.*"):
        quantize_graph(mlp, tmp_path / "q.onnx", {"image": 1.0}, CPU, 2, ("*.fc3",))
    with pytest.raises(ConfigError, match="nothing is left"):
        quantize_graph(mlp, tmp_path / "q.onnx", {"image": 1.0}, CPU, 2, ("*",))


@pytest.mark.parametrize("form", ["slabs", "packed"])
def test_every_product_and_attention_is_found(form: FormName, tmp_path: Path) -> None:
    places = find_places(ir.load(exported(POCKET, form, tmp_path)).graph)
    kinds = [gemm.kind for gemm in places.gemms]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        **dict.fromkeys(("qkv", "proj", "fc1", "fc2"), 6),
        "embed": 1,
        "merge": 2,
        "head": 1,
    }
    assert len(places.attentions) == 6
    assert {a.name for a in places.attentions} == {
        f"layers.{stage}.blocks.{block}.attn" for stage in range(3) for block in range(2)
    }
    assert all((a.slabs is not None) == (form == "slabs") for a in places.attentions)
    assert {(a.head_size, a.keys) for a in places.attentions} == {(16, 16)}


def test_places_of_v2_and_of_a_vit_are_found(tmp_path: Path) -> None:
    places = find_places(ir.load(exported(COSINE, "packed", tmp_path)).graph)
    assert (len(places.attentions), len(places.gemms)) == (6, 28)
    places = find_places(ir.load(exported(POCKET_VIT, "packed", tmp_path)).graph)
    assert (len(places.attentions), len(places.gemms)) == (4, 18)


def test_an_mlp_is_quantised_where_that_is_smaller(tmp_path: Path) -> None:
    """Many tokens and few channels: its activations grow more than its weights shrink."""
    graph = ir.load(exported(POCKET, "slabs", tmp_path, batch=1)).graph
    small = choose_places(find_places(graph), GPU, batch=1)
    mlps = {gemm.block for gemm in small.gemms if gemm.kind == "fc1"}
    # 256, 64 and 16 tokens of 16, 32 and 64 channels; 7 kernels a block, 6 blocks, a tenth: 4.
    assert mlps == {"layers.2.blocks.0", "layers.2.blocks.1"}
    assert {gemm.block for gemm in small.gemms if gemm.kind == "fc2"} == mlps
    kept = choose_places(find_places(graph), GPU, batch=1, keep=("layers.2.blocks.0.mlp.fc1",))
    assert {gemm.block for gemm in kept.gemms if gemm.kind == "fc2"} == {"layers.2.blocks.1"}


@pytest.mark.parametrize(
    ("variant", "form", "kind"),
    [
        (POCKET, "slabs", "tensorrt"),
        (POCKET, "packed", "tensorrt"),
        (POCKET, "slabs", "onnxruntime"),
        (POCKET, "packed", "onnxruntime"),
        (COSINE, "packed", "tensorrt"),
        (POCKET_VIT, "packed", "tensorrt"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_quantised_network_agrees_and_a_wrong_range_does_not(
    variant: Variant, form: FormName, kind: str, tmp_path: Path
) -> None:
    from swin_deploy.graph.int8.observe import collect_statistics

    source, recipe = exported(variant, form, tmp_path), RECIPES[kind]
    shape = (8, variant.config.in_channels, *variant.config.image_size)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    names = tensors_to_calibrate(source, recipe, 2)
    found = collect_statistics(source, names, lambda: [images], None, {})
    thresholds = {name: statistics.threshold("minmax") for name, statistics in found.items()}

    def agreement(given: dict[str, float]) -> float:
        final, wide = tmp_path / "int8.onnx", tmp_path / "wide.onnx"
        quantize_graph(source, final, given, recipe, 2)
        around = None if recipe.surrounding == "fp32" else recipe.surrounding
        require_converted(source, final, around, scales_of(given, recipe))
        round_every_result(final, wide)
        logits = []
        for path in (source, wide):
            with OnnxRuntimeRunner(path, simulated_int8=kind == "tensorrt") as runner:
                logits.append(runner.run(images[:2])["logits"])
        return sqnr_db(*logits)

    good = agreement(thresholds)
    assert good > 20
    worst = min(
        agreement(thresholds | {name: thresholds[name] / 50}) for name in list(thresholds)[-3:]
    )
    assert worst < good - 6


def test_slabs_share_one_scale_and_packed_parts_have_their_own(tmp_path: Path) -> None:
    slabs = tensors_to_calibrate(exported(POCKET, "slabs", tmp_path), GPU, 2)
    packed = tensors_to_calibrate(exported(POCKET, "packed", tmp_path), GPU, 2)
    assert len(packed) - len(slabs) == 2 * 6  # query, key and value in place of one product


def scales_of(thresholds: dict[str, float], recipe: Recipe) -> dict[str, float]:
    smallest = SMALLEST_SCALE[recipe.surrounding]
    return {n: float(round_scale(np.asarray(t / 127), smallest)) for n, t in thresholds.items()}


def change_integer(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name.endswith("proj.weight.int8"))
    value = numpy_helper.to_array(tensor).copy()
    value.reshape(-1)[3] += 1 if value.reshape(-1)[3] < 100 else -1
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def change_step(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name.endswith("proj.weight.scale"))
    value = numpy_helper.to_array(tensor) * 1.1
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), tensor.name))


def move_zero(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "int8.zero")
    tensor.CopyFrom(numpy_helper.from_array(np.int8(1), tensor.name))


def skip_activation(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Gelu")
    for other in model.graph.node:
        other.input[:] = [node.input[0] if i == node.output[0] else i for i in other.input]
    model.graph.node.remove(node)


def read_another(model: onnx.ModelProto) -> None:
    """A pair that hands on another tensor of the same shape."""
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and ".attn/" in n.name]
    pairs[1].input[0] = pairs[0].input[0]


def widen_activation(model: onnx.ModelProto) -> None:
    """Every other logit stays within the floor of INT8 with it."""
    (_, name, _) = next(n for n in model.graph.node if n.op_type == "QuantizeLinear").input
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(2), name))


def nudge_activation(model: onnx.ModelProto) -> None:
    """The next number that FP16 has, and for one activation alone."""
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    tensor = next(t for t in model.graph.initializer if t.name == first.input[1])
    value = np.nextafter(numpy_helper.to_array(tensor), np.float16(9))
    model.graph.initializer.append(numpy_helper.from_array(value, "other"))
    first.input[1] = "other"


def coarsen_weight(model: onnx.ModelProto) -> None:
    """Integers within half a step, of steps that are four times as wide."""
    held = {t.name: t for t in model.graph.initializer}
    scale = next(t for t in held.values() if t.name.endswith("proj.weight.scale"))
    whole = held[scale.name.replace(".scale", ".int8")]
    integers = np.rint(numpy_helper.to_array(whole) / 4).astype(np.int8)
    steps = numpy_helper.to_array(scale) * np.float16(4)
    whole.CopyFrom(numpy_helper.from_array(integers, whole.name))
    scale.CopyFrom(numpy_helper.from_array(steps, scale.name))


def zero_of_uint8(model: onnx.ModelProto) -> None:
    """Zero, and of a type that has nothing below it."""
    tensor = next(t for t in model.graph.initializer if t.name == "int8.zero")
    tensor.CopyFrom(numpy_helper.from_array(np.uint8(0), tensor.name))


def no_zero(model: onnx.ModelProto) -> None:
    """Without one the type is uint8, too."""
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" or (len(node.input) == 3 and is_back(node)):
            del node.input[2]
    zero = next(t for t in model.graph.initializer if t.name == "int8.zero")
    model.graph.initializer.remove(zero)


def is_back(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "DequantizeLinear")


def add_attribute(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    node.attribute.append(onnx.helper.make_attribute("saturate", 0))


def hide_behind_a_right_one(model: onnx.ModelProto) -> None:
    """Two nodes hand a weight on: one is right and nothing reads it."""
    held = {t.name: t for t in model.graph.initializer}
    index, node = next(
        (i, n) for i, n in enumerate(model.graph.node) if is_back(n) and n.input[0] in held
    )
    right = onnx.NodeProto()
    right.CopyFrom(node)
    right.output[0], right.name = "right", "right"
    whole = numpy_helper.to_array(held[node.input[0]])
    name = f"{node.input[0].rpartition('.')[0]}.other"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros_like(whole), name))
    node.input[0] = name
    model.graph.node.insert(index + 1, right)


@pytest.mark.parametrize(
    "damage",
    [
        *(change_integer, change_step, move_zero, skip_activation, read_another),
        *(zero_of_uint8, no_zero, add_attribute, hide_behind_a_right_one),
        *(widen_activation, nudge_activation, coarsen_weight),
    ],
    ids=lambda damage: damage.__name__,
)
def test_an_int8_graph_that_is_not_the_fp32_graph_is_found(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, final = exported(POCKET, "packed", tmp_path), tmp_path / "int8.onnx"
    thresholds = dict.fromkeys(tensors_to_calibrate(source, GPU, 2), 4.0)
    quantize_graph(source, final, thresholds, GPU, 2)
    scales = scales_of(thresholds, GPU)
    require_converted(source, final, "fp16", scales)
    model = onnx.load(final)
    damage(model)
    onnx.save(model, final)
    with pytest.raises(VerificationError, match=r"is not model.onnx in INT8"):
        require_converted(source, final, "fp16", scales)


def test_weights_are_in_8_bits(tmp_path: Path) -> None:
    """In 32, with steps that are 16 times as wide, all are within half a step of them."""
    source, final = exported(POCKET, "packed", tmp_path), tmp_path / "int8.onnx"
    thresholds = dict.fromkeys(tensors_to_calibrate(source, GPU, 2), 4.0)
    quantize_graph(source, final, thresholds, GPU, 2)
    model = onnx.load(final)
    full = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}
    held = {t.name: t for t in model.graph.initializer}
    stored = [n for n in model.graph.node if is_back(n) and n.input[0] in held]
    assert stored
    for node in stored:
        whole, scale = held[node.input[0]], held[node.input[1]]
        steps = numpy_helper.to_array(scale) * np.float16(16)
        (axis,) = (a.i for a in node.attribute)
        wide = np.expand_dims(steps.astype(np.float64), 1 - axis)
        integers = np.rint(full[whole.name.rpartition(".")[0]] / wide).astype(np.int32)
        whole.CopyFrom(numpy_helper.from_array(integers, whole.name))
        scale.CopyFrom(numpy_helper.from_array(steps, scale.name))
    onnx.save(model, final)
    with pytest.raises(VerificationError, match="is not the product of the scales"):
        require_converted(source, final, "fp16", scales_of(thresholds, GPU))


def test_the_scale_of_a_bias_is_the_product_of_two(tmp_path: Path) -> None:
    source, final = exported(POCKET, "packed", tmp_path), tmp_path / "int8.onnx"
    recipe = RECIPES["onnxruntime"]
    thresholds = dict.fromkeys(tensors_to_calibrate(source, recipe, 2), 4.0)
    quantize_graph(source, final, thresholds, recipe, 2)
    scales = scales_of(thresholds, recipe)
    require_converted(source, final, None, scales)
    model = onnx.load(final)
    held = {t.name: t for t in model.graph.initializer}
    scale = next(t for t in held.values() if t.name.endswith("fc1.bias.scale"))
    whole = held[scale.name.replace(".scale", ".int32")]
    name = scale.name.removesuffix(".scale")
    bias = next(t for t in onnx.load(source).graph.initializer if t.name == name)
    doubled = numpy_helper.to_array(scale) * np.float32(2)
    halved = np.rint(numpy_helper.to_array(bias) / doubled).astype(np.int32)
    scale.CopyFrom(numpy_helper.from_array(doubled, scale.name))
    whole.CopyFrom(numpy_helper.from_array(halved, whole.name))
    onnx.save(model, final)
    with pytest.raises(VerificationError, match="is not the product of the scales"):
        require_converted(source, final, None, scales)
