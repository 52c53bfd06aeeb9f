"""Passes over the ends of a graph, on graphs that can be read: the same numbers, other ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from swin_deploy.core.errors import InputError
from swin_deploy.data.bands import normalise
from swin_deploy.data.images import FP32_INPUT, ImageInput, make_noise_for
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.interface import (
    GiveBest,
    GiveProbabilities,
    HalveEnds,
    TakePixels,
    apply_interface,
    read_image_input,
)
from swin_deploy.network.interface import Interface, Preprocessing
from swin_deploy.network.judge import FloatArray, softmax

STEPS = Preprocessing(mean=(0.485, 0.456), std=(0.229, 0.224))
MEANS = STEPS.mean, STEPS.std
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2, 3, 4] image) => (float[b, 24] logits)
<int64[2] shape = {-1, 24}> {
    logits = Reshape(image, shape)
}"""
HALF = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2, 3, 4] image) => (float[b, 24] logits)
<float16[b, 2, 3, 4] x, float16[b, 24] y, int64[2] shape = {-1, 24}> {
    x = Cast<to = 10>(image)
    y = Reshape(x, shape)
    logits = Cast<to = 1>(y)
}"""


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def ends(model: ir.Model) -> list[tuple[str | None, str]]:
    return [(v.name, str(v.dtype)) for v in (*model.graph.inputs, *model.graph.outputs)]


def run(model: ir.Model, path: Path, images: FloatArray) -> dict[str, FloatArray]:
    ir.save(model, path / "g.onnx")
    with OnnxRuntimeRunner(path / "g.onnx") as runner:
        return runner.run(images)


def test_pixels_reach_the_network_bit_for_bit(tmp_path: Path) -> None:
    pixels = np.arange(240, dtype=np.uint8).reshape(-1, 3, 4, 2)
    pixels = np.concatenate([pixels, 255 - pixels])
    model = ir.from_onnx_text(GRAPH)
    assert TakePixels(*MEANS)(model).modified
    assert ops(model) == ["Cast", "Div", "Sub", "Div", "Transpose", "Reshape"]
    assert ends(model) == [("image", "UINT8"), ("logits", "FLOAT")]
    logits = run(model, tmp_path, pixels)["logits"]
    np.testing.assert_array_equal(logits.reshape(-1, 2, 3, 4), normalise(pixels, *MEANS))
    before = ops(model)
    assert not TakePixels(*MEANS)(model).modified
    assert ops(model) == before


@pytest.mark.parametrize(
    "text",
    [
        GRAPH.replace("float[b, 2, 3, 4] image", "float16[b, 2, 3, 4] image"),
        GRAPH.replace("float[b, 2, 3, 4] image", "float[b, 3, 2, 4] image"),
        GRAPH.replace("float[b, 2, 3, 4] image", "float[b, 24] image"),
        GRAPH.replace("image)", "image, float[1] other)", 1),
    ],
    ids=["half", "other channels", "no image", "two inputs"],
)
def test_pixels_are_for_images_alone(text: str) -> None:
    model = ir.from_onnx_text(text)
    assert not TakePixels(*MEANS)(model).modified
    assert ops(model) == ["Reshape"]


def test_fp16_is_handed_in_and_out_without_a_cast(tmp_path: Path) -> None:
    model = ir.from_onnx_text(HALF)
    assert HalveEnds()(model).modified
    assert ops(model) == ["Reshape"]
    assert ends(model) == [("image", "FLOAT16"), ("logits", "FLOAT16")]
    assert not HalveEnds()(model).modified
    images = np.random.default_rng(0).standard_normal((3, 2, 3, 4)).astype(np.float16)
    found = run(model, tmp_path, images)["logits"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.reshape(3, 24))


def test_fp32_next_to_an_end_gets_a_cast(tmp_path: Path) -> None:
    model = ir.from_onnx_text(GRAPH)
    assert HalveEnds()(model).modified
    assert ops(model) == ["Cast", "Reshape", "Cast"]
    assert ends(model) == [("image", "FLOAT16"), ("logits", "FLOAT16")]
    run(model, tmp_path, np.zeros((1, 2, 3, 4), np.float16))


def test_fp16_leaves_what_comes_of_the_logits_alone() -> None:
    model = ir.from_onnx_text(HALF)
    GiveProbabilities("Softmax")(model)
    GiveBest(3)(model)
    assert HalveEnds()(model).modified
    assert ends(model) == [("image", "FLOAT16"), ("scores", "FLOAT"), ("classes", "INT64")]


def test_probabilities_and_the_best_of_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((3, 2, 3, 4)).astype(np.float32)
    model = ir.from_onnx_text(GRAPH)
    assert GiveProbabilities("Softmax")(model).modified
    assert not GiveProbabilities("Softmax")(model).modified
    expected = softmax(images.reshape(3, 24))
    np.testing.assert_allclose(run(model, tmp_path, images)["probabilities"], expected, rtol=1e-5)
    assert GiveBest(3)(model).modified
    assert not GiveBest(3)(model).modified
    found = run(model, tmp_path, images)
    order = np.argsort(-expected, axis=1)[:, :3]
    np.testing.assert_array_equal(found["classes"], order)
    np.testing.assert_allclose(
        found["scores"], np.take_along_axis(expected, order, axis=1), rtol=1e-5
    )


@pytest.mark.parametrize(
    "text",
    [
        GRAPH.replace("logits", "stage1"),
        GRAPH.replace("float[b, 24] logits", "float16[b, 24] logits"),
    ],
    ids=["maps", "half"],
)
def test_only_fp32_logits_become_probabilities_or_classes(text: str) -> None:
    model = ir.from_onnx_text(text)
    assert not GiveProbabilities("Softmax")(model).modified
    assert not GiveBest(1)(model).modified
    assert ops(model) == ["Reshape"]


def test_more_classes_than_there_are_is_refused(tmp_path: Path) -> None:
    model = ir.from_onnx_text(GRAPH)
    assert not GiveBest(25)(model).modified
    ir.save(model, tmp_path / "g.onnx")
    with pytest.raises(InputError, match="no graph for GiveBest"):
        apply_interface(tmp_path / "g.onnx", tmp_path / "x.onnx", Interface(topk=25), STEPS, "fp32")
    assert not (tmp_path / "x.onnx").exists()


def test_a_file_says_what_it_takes(tmp_path: Path) -> None:
    source, final = tmp_path / "g.onnx", tmp_path / "x.onnx"
    ir.save(ir.from_onnx_text(GRAPH), source)
    assert read_image_input(source) == FP32_INPUT
    apply_interface(source, final, Interface(io="uint8"), STEPS, "fp32")
    assert read_image_input(final) == ImageInput("uint8", *MEANS)
    apply_interface(source, final, Interface(io="fp16"), STEPS, "fp16")
    assert read_image_input(final) == ImageInput("fp16")
    apply_interface(source, final, Interface(io="fp16", topk=2), STEPS, "fp32")
    assert read_image_input(final) == FP32_INPUT
    model = ir.from_onnx_text(GRAPH)
    TakePixels(*MEANS)(model)
    ir.save(model, final)
    with pytest.raises(InputError, match="does not say with what mean and std"):
        read_image_input(final)


@pytest.mark.parametrize("io", ["fp32", "fp16", "uint8"])
def test_images_go_there_and_back_exactly(io: str) -> None:
    taken = ImageInput(io, *MEANS)  # type: ignore[arg-type]
    noise = make_noise_for(taken, 2, 2, (8, 8))
    assert noise.name == "noise x2"
    assert noise.images.dtype == np.float32
    np.testing.assert_array_equal(noise.images, make_noise_for(taken, 2, 2, (8, 8)).images)
    prepared = taken.prepare(noise.images)
    assert str(prepared.dtype) == {"fp32": "float32", "fp16": "float16"}.get(io, "uint8")
    back = normalise(prepared, *MEANS) if io == "uint8" else prepared.astype(np.float32)
    np.testing.assert_array_equal(back, noise.images)


def test_every_pixel_survives() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(2).reshape(1, 16, 16, 2)
    images = normalise(pixels, *MEANS)
    np.testing.assert_array_equal(ImageInput("uint8", *MEANS).prepare(images), pixels)


@pytest.mark.fault(36)
def test_images_that_a_graph_cannot_take_are_refused() -> None:
    half_a_pixel = normalise(np.full((1, 2, 2, 2), 7, np.uint8), *MEANS) + 0.5 / 255 / 0.22
    beyond = normalise(np.full((1, 2, 2, 2), 255, np.uint8), *MEANS) + 1 / 255 / np.float32(0.229)
    for images in (half_a_pixel, beyond, np.full((1, 2, 2, 2), np.nan, np.float32)):
        with pytest.raises(InputError, match="not normalised pixels"):
            ImageInput("uint8", *MEANS).prepare(images.astype(np.float32))
    with pytest.raises(InputError, match="not exact in float16"):
        ImageInput("fp16").prepare(np.full((1, 2, 2, 2), 0.1, np.float32))
