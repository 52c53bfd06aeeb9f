"""What is fuzzed: how whole files of a kind are made, damaged and read."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save as save_safetensors

from fuzzing import checkpoints
from fuzzing.records import RECORDS
from fuzzing.subject import Subject, binary, both, text
from swin_deploy.data.images import load_photo
from swin_deploy.data.sources import find_images
from swin_deploy.engine.cost.graph_facts import cost_graph, profile_of, read_graph
from swin_deploy.graph.export import check_graph, read_outputs
from swin_deploy.graph.interface import read_image_input
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import ONE_IMAGE, Preprocessing
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import stage_geometry
from swin_deploy.pipeline.request import read_config

CONFIG = b"""image_size = 32
embed_dim = 16
depths = [2, 2]
num_heads = [1, 2]
window_size = 4
num_classes = 5
[preprocessing]
crop = 0.9
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def _read_checkpoint(path: Path) -> object:
    return load_checkpoint(path, LoadOptions(image_size=checkpoints.SMALLEST.image_size))


def _safetensors() -> dict[str, bytes]:
    tensors = {n: v.detach() for n, v in build_model(checkpoints.SMALLEST).named_parameters()}
    halved = {name: value.half() for name, value in tensors.items()}
    return {"float32": save_safetensors(tensors), "float16": save_safetensors(halved)}


def _arrays(suffix: str) -> dict[str, bytes]:
    images = np.random.default_rng(0).standard_normal((3, 1, 4, 4), dtype=np.float32)
    save = {".npy": np.save, ".npz": np.savez_compressed}[suffix]
    stream = io.BytesIO()
    save(stream, images)
    return {"images": stream.getvalue()}


def _read_array(path: Path) -> object:
    found = find_images(path)
    return sum(image.sum() for image in found.read(range(min(found.count, 100))))


def _photos() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    made = {}
    kinds = (("RGB", "PNG"), ("RGB", "JPEG"), ("P", "GIF"), ("L", "TIFF"), ("RGBA", "WEBP"))
    for mode, name in (*kinds, ("RGB", "BMP")):
        stream = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(stream, name)
        made[name] = stream.getvalue()
    return made


def _read_photo(path: Path) -> object:
    return load_photo(path, (8, 8), Preprocessing(crop=1.0))


def _config() -> dict[str, bytes]:
    return {"all keys": CONFIG}


def _graph() -> dict[str, bytes]:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))
    scores = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 4))
    weights = {
        "conv": np.ones((2, 3, 4, 4), np.float32),
        "matrix": np.ones((8, 4), np.float32),
        "shape": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["a"], name="/m/conv/Conv", strides=[4, 4]),
        helper.make_node("Reshape", ["a", "shape"], ["r"], name="/m/Reshape"),
        helper.make_node("MatMul", ["r", "matrix"], ["m"], name="/m/head/MatMul"),
        helper.make_node("Softmax", ["m"], ["logits"], name="/m/Softmax"),
    ]
    entry = nodes[2].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'm.head', 'linear']"
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [image], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return {"model": model.SerializeToString()}


def _read_graph(path: Path) -> object:
    check_graph(path)
    found = read_outputs(path), read_image_input(path), profile_of(path, ONE_IMAGE)
    return found, read_graph(path), cost_graph(path)


def _read_config(path: Path) -> object:
    return stage_geometry(read_config(path).config)


_npy, _npz = partial(_arrays, ".npy"), partial(_arrays, ".npz")
SUBJECTS = {
    "checkpoint": Subject(".pth", checkpoints.whole_files, _read_checkpoint, checkpoints.damaged),
    "safetensors": Subject(".safetensors", _safetensors, _read_checkpoint, both),
    "config": Subject(".toml", _config, _read_config, text),
    "array": Subject(".npy", _npy, _read_array, binary),
    "archive": Subject(".npz", _npz, _read_array, binary),
    "photo": Subject(".png", _photos, _read_photo, binary),
    "graph": Subject(".onnx", _graph, _read_graph, binary),
    **RECORDS,
}
