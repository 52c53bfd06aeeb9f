"""What is fuzzed: how whole files of a kind are made, damaged and read."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save as save_safetensors

from fuzzing import checkpoints
from fuzzing.mutation import mutated
from swin_deploy.checkpoints.load import load_checkpoint
from swin_deploy.config import LoadOptions, read_config
from swin_deploy.data.arrays import find_images
from swin_deploy.data.classes import read_class_names
from swin_deploy.data.images import load_photo
from swin_deploy.engine.graph_facts import read_graph
from swin_deploy.model.build import build_model
from swin_deploy.preprocessing import Preprocessing
from swin_deploy.records import load_json

Damage = Callable[[bytes, random.Random], bytes]

_TEXT = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"=",
        b"\n",
        b"#",
        b"\\",
        b"\\ud800",
        b"\0",
        b"\xff",
    ),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"2147483648", b"1000000007", b"0.5"),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"[[a]]\n", b'"""', b"1979-05-27"),
)
_BINARY = (
    b"\0" * 64,
    b"\xff" * 8,
    b"PK\x03\x04",
    b"\x93NUMPY",
    b"((((",
    b"\x80\x04",
    b"|O",
    b"\x7f",
)
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


@dataclass(frozen=True)
class Subject:
    """One kind of file. All functions can be handed to another process.

    Attributes:
        suffix: Of its name.
        whole: Makes small files that can be read, by what they are.
        read: Reads one as commands do.
        damage: Gives a damaged copy.
    """

    suffix: str
    whole: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]
    damage: Damage


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
    for mode, name in (
        ("RGB", "PNG"),
        ("RGB", "JPEG"),
        ("P", "GIF"),
        ("L", "TIFF"),
        ("RGBA", "WEBP"),
    ):
        stream = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(stream, name)
        made[name] = stream.getvalue()
    return made


def _read_photo(path: Path) -> object:
    return load_photo(path, (8, 8), Preprocessing(crop=1.0))


def _config() -> dict[str, bytes]:
    return {"all keys": CONFIG}


def _classes() -> dict[str, bytes]:
    return {"names": json.dumps(["cat", "dog", "bird"]).encode()}


def _record() -> dict[str, bytes]:
    return {"object": json.dumps({"a": [1, 2.5, {"b": None}], "c": "text"}).encode()}


def _graph() -> dict[str, bytes]:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6)
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["y"], name="layers.0/MatMul"),
        helper.make_node("Softmax", ["y"], ["logits"], axis=-1),
    ]
    ends = (
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])],
    )
    graph = helper.make_graph(nodes, "g", *ends, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return {"model": model.SerializeToString()}


_text = partial(mutated, pieces=_TEXT)
_binary = partial(mutated, pieces=_BINARY)
_both = partial(mutated, pieces=_TEXT + _BINARY)
_npy, _npz = partial(_arrays, ".npy"), partial(_arrays, ".npz")
SUBJECTS = {
    "checkpoint": Subject(".pth", checkpoints.whole_files, _read_checkpoint, checkpoints.damaged),
    "safetensors": Subject(".safetensors", _safetensors, _read_checkpoint, _both),
    "config": Subject(".toml", _config, read_config, _text),
    "classes": Subject(".json", _classes, read_class_names, _text),
    "record": Subject(".json", _record, load_json, _text),
    "array": Subject(".npy", _npy, _read_array, _binary),
    "archive": Subject(".npz", _npz, _read_array, _binary),
    "photo": Subject(".png", _photos, _read_photo, _binary),
    "graph": Subject(".onnx", _graph, read_graph, _binary),
}
