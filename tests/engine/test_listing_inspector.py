"""The engine inspector's JSON, in the schemas of TensorRT 10 and of TensorRT 11."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from swin_deploy.core.errors import InputError
from swin_deploy.engine.cost.listing import from_dict, load_listing, read_inspector
from swin_deploy.pipeline.run import RunResult

NODES = "[ONNX Layer: layers.0.blocks.0.attn.qkv/MatMul]\x1f[ONNX Layer: layers.0.blocks.0/Add]"


def tensor_10(name: str, dims: list[int], words: str) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": dims, "Format/Datatype": words}


def tensor_11(name: str, dims: list[int], dtype: str) -> dict[str, Any]:
    words = "Row major linear format"
    return {"Name": name, "Dimensions": dims, "Datatype": dtype, "Format": words}


TENSORRT_10 = {
    "Layers": [
        {
            "Name": "__myl_FcAdd_myl0_3",
            "LayerType": "gemm",
            "Inputs": [
                tensor_10("image", [50, 96], "Row major linear FP16 format"),
                tensor_10("__mye12_dconst", [96, 288], "Half"),
            ],
            "Outputs": [tensor_10("y", [50, 288], "Half")],
            "TacticName": "sm80_xmma_gemm_f16f16",
            "StreamId": 0,
            "Metadata": NODES,
        },
        {
            "Name": "patch_embed",
            "LayerType": "CaskConvolution",
            "Inputs": [
                tensor_10("y", [50, 288], "Channel major FP16 format where channel % 8 == 0")
            ],
            "Outputs": [tensor_10("logits", [50, 10], "Row major linear FP32")],
            "Weights": {"Type": "Half", "Count": 100},
            "Bias": {"Type": "Float", "Count": 10},
            "Metadata": "",
        },
        {"Name": "wait", "LayerType": "wait", "Inputs": [], "Outputs": []},
    ],
    "Bindings": ["image", "logits"],
}
TENSORRT_11 = {
    "Layers": [
        {
            "Name": "__myl_FcAdd_myl0_3",
            "LayerType": "gemm",
            "Inputs": [tensor_11("image", [50, 96], "Half")],
            "Constants": [tensor_11("__mye12_dconst", [96, 288], "Half")],
            "Outputs": [tensor_11("y", [50, 288], "Half")],
            "TacticName": "sm80_xmma_gemm_f16f16",
            "Metadata": NODES,
        },
        {
            "Name": "patch_embed",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor_11("y", [50, 288], "Half")],
            "Outputs": [tensor_11("logits", [50, 10], "Float")],
            "Weights": {"Type": "Half", "Count": 100},
            "Bias": {"Type": "Float", "Count": 10},
            "Metadata": "",
        },
        {"Name": "shapes", "LayerType": "shape_call", "Inputs": [], "Outputs": []},
    ],
    "I/O Tensors": [
        {"Name": "image", "IOMode": "Input", "DataType": "Half", "Dimensions": [50, 96]},
        {"Name": "logits", "IOMode": "Output", "DataType": "Float", "Dimensions": [50, 10]},
    ],
}


@pytest.mark.parametrize("schema", [TENSORRT_10, TENSORRT_11], ids=["10", "11"])
def test_either_schema_gives_the_same_kernels(schema: dict[str, Any]) -> None:
    listing = read_inspector(json.dumps(schema))
    gemm, convolution = listing.kernels
    assert gemm.activation_bytes == 2 * 50 * (96 + 288)
    assert gemm.constant_bytes == 2 * 96 * 288
    assert gemm.onnx_nodes == ("layers.0.blocks.0.attn.qkv/MatMul", "layers.0.blocks.0/Add")
    assert (gemm.dtype, convolution.dtype) == ("Half", "Float")
    assert convolution.activation_bytes == 50 * (288 * 2 + 10 * 4)
    assert convolution.constant_bytes == 2 * 100 + 4 * 10
    assert convolution.matrix


def test_a_dynamic_batch_has_no_bytes() -> None:
    schema = copy.deepcopy(TENSORRT_10)
    for entry in (schema["Layers"][0]["Inputs"][0], schema["Layers"][0]["Outputs"][0]):
        entry["Dimensions"][0] = -1
        entry["Format/Datatype"] = "N/A due to dynamic shapes"
    kernel = read_inspector(json.dumps(schema)).kernels[0]
    assert kernel.activation_bytes is None
    assert kernel.constant_bytes == 2 * 96 * 288


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "in a layout of TensorRT"),
        ('{"Layers": []}', "in a layout of TensorRT"),  # neither of the lists of engine tensors
        ('{"Layers": ["a", "b"], "Bindings": []}', "only names of layers"),
        (json.dumps(TENSORRT_10).replace("Format/Datatype", "Typ"), "in a layout of TensorRT"),
        (json.dumps(TENSORRT_11).replace('"Dimensions"', '"Dims"'), "in a layout of TensorRT"),
        (json.dumps(TENSORRT_11).replace('"Half"', '"Posit"'), "unknown datatype 'Posit'"),
    ],
)
def test_another_schema_is_an_error(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_inspector(text)


def test_int8_operands_make_an_int8_product() -> None:
    schema = copy.deepcopy(TENSORRT_11)
    schema["Layers"][0]["Inputs"][0]["Datatype"] = "Int8"
    kernel = read_inspector(json.dumps(schema)).kernels[0]
    assert (kernel.dtype, kernel.operand_dtype) == ("Int8", "Int8")


def test_a_listing_survives_its_file() -> None:
    listing = read_inspector(json.dumps(TENSORRT_10))
    data = json.loads(json.dumps(listing.as_dict()))
    assert from_dict(data, "x") == listing
    for damage in ({}, data | {"schema_version": 2}, data | {"kernels": [{"name": "x"}]}):
        with pytest.raises(InputError, match="export again"):
            from_dict(damage, "x")


def test_a_kernel_that_does_not_fit_is_named(tmp_path: Path) -> None:
    data = json.loads(json.dumps(read_inspector(json.dumps(TENSORRT_10)).as_dict()))
    data["kernels"][0]["outputs"][0]["dtype"] = "Half a byte"
    path = tmp_path / "x.kernels.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        load_listing(path)
    assert caught.value.problem.startswith(f"{path}: kernels[0].outputs[0] is ")
    assert caught.value.problem.endswith("unknown datatype Half a byte in the compiler's listing")


@pytest.mark.gpu
def test_the_inspector_agrees_with_the_log(pocket_run: RunResult) -> None:
    """Of an engine of TensorRT-RTX, which the log lists as well."""
    import tensorrt_rtx as trt

    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    plan = Path(pocket_run.path / "engines" / "rtx-fp16.plan").read_bytes()
    inspector = runtime.deserialize_cuda_engine(plan).create_engine_inspector()
    listing = read_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    assert len(listing.kernels) == pocket_run.stages["engine:rtx-fp16"].details["kernels"]
