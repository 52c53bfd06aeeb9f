"""Damaged files of every other kind: something comes out, or a typed error."""

from __future__ import annotations

import gzip
import io
import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fuzzing.checkpoints import LIMIT_S
from swin_deploy.batches import ONE_IMAGE
from swin_deploy.checkpoints.sidecar import read_sidecars
from swin_deploy.config import read_config
from swin_deploy.data.arrays import find_images
from swin_deploy.data.classes import read_class_names
from swin_deploy.data.images import load_photo
from swin_deploy.data.inputs import InputSet
from swin_deploy.data.mnist import load_mnist_5k
from swin_deploy.data.photo_list import read_lines
from swin_deploy.data.synsets import read_class_map
from swin_deploy.engine.graph_facts import profile_of, read_graph
from swin_deploy.engine.listing import from_dict
from swin_deploy.engine.listing_inspector import read_inspector
from swin_deploy.engine.traffic import cost_graph
from swin_deploy.errors import SwinDeployError
from swin_deploy.evaluate.journal import journal_path, open_journal
from swin_deploy.geometry import stage_geometry
from swin_deploy.graph.calibration_cache import Calibration, read_cache, write_cache
from swin_deploy.graph.dress import read_image_input
from swin_deploy.graph.export import check_graph, read_outputs
from swin_deploy.graph.tensor_statistics import measure_tensor
from swin_deploy.preprocessing import Preprocessing
from swin_deploy.records import load_json
from swin_deploy.report.page.reading import read_content, recognise
from swin_deploy.verify import saved

# Bits of text that mean something to one of the readers.
_TEXTS = (
    *(b"1e999", b"-1", b"0", b"9" * 5000, b"NaN", b"null", b"true", b'"x"', b"[]", b"{}"),
    *(b"[" * 200, b"((((", b"'descr': '|O'", b"\xff\xfe", b"\0", b"\\ud800", b"../../x"),
    *(b"1" * 30, b"0x" + b"f" * 6000),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Of the file.
        content: A whole one.
        read: All that reads it.
    """

    name: str
    content: bytes
    read: Callable[[Path], object]


def _quiet(text: str) -> None:
    """Hears what a reader has to say."""


class _Silent:
    visible = False

    def file(self, name: str, total: int | None) -> Callable[[int], Any]:
        raise AssertionError(f"{name} would be fetched")

    def note(self, text: str) -> None:
        """As ``_quiet``."""


def _onnx() -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))
    scores = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 4))
    weights = {
        "conv": np.ones((2, 3, 4, 4), np.float32),
        "matrix": np.ones((8, 4), np.float32),
        "shape": np.array([0, -1], np.int64),
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
    content: bytes = model.SerializeToString()
    return content


def _read_onnx(path: Path) -> None:
    check_graph(path)
    read_outputs(path)
    read_image_input(path)
    profile_of(path, ONE_IMAGE)
    read_graph(path)
    cost_graph(path)


def _array(packed: bool) -> bytes:
    stream, images = io.BytesIO(), np.zeros((2, 3, 4, 4), np.float32)
    if packed:
        np.savez_compressed(stream, images=images)
    else:
        np.save(stream, images)
    return stream.getvalue()


def _read_array(path: Path) -> None:
    array = find_images(path)
    for _ in array.read(range(min(array.count, 10))):
        pass


def _saved(folder: Path) -> bytes:
    inputs = [InputSet("noise", np.zeros((1, 3, 4, 4), np.float32), False)]
    header = {"run": "x", "sides": {"onnx": {"precision": "fp32"}}}
    path = folder / "saved.npz"
    outputs = {"onnx": [{"logits": np.zeros((1, 2), np.float32)}]}
    saved.save_outputs(path, header, inputs, outputs)  # type: ignore[arg-type]
    content = path.read_bytes()
    path.unlink()
    return content


_IDENTITY: dict[str, Any] = {"graph": "x", "tensors": ["t"]}


def _cache(folder: Path) -> bytes:
    path = folder / "cache.npz"
    statistics = {"t": measure_tensor(np.ones((1, 4), np.float32), 1, weight=1)}
    write_cache(path, _IDENTITY, Calibration(1, False, statistics))
    content = path.read_bytes()
    path.unlink()
    return content


def _read_journal(path: Path) -> None:
    report = path.with_name("evaluate.json")
    path.replace(journal_path(report))
    with open_journal(report, {"a": [1]}, _quiet):
        pass


def _photo(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, form)
    return stream.getvalue()


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind, by what it is; ``folder`` is for what can only be written to a file."""
    listing = {
        "schema_version": 1,
        "problem": "",
        "kernels": [
            {
                "name": "k",
                "kind": "gemm",
                "inputs": [{"dtype": "Float", "dims": [1, 2]}],
                "constants": [],
                "outputs": [{"dtype": "Half", "dims": [2]}],
                "onnx_nodes": ["a"],
            }
        ],
    }
    tensor = {"Name": "o", "Dimensions": [1, 2], "Format/Datatype": "Float"}
    layer = {"Name": "k", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor]}
    inspected = {"Layers": [layer | {"Metadata": "[ONNX Layer: a]"}], "Bindings": ["o"]}
    timm = {
        "architecture": "swin_tiny_patch4_window7_224",
        "num_classes": 10,
        "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5],
                           "std": [0.5, 0.5, 0.5]},
        "model_args": {"img_size": 224, "window_size": 7},
    }  # fmt: skip
    transformers = {"model_type": "swin", "image_size": 224, "patch_size": 4, "depths": [2, 2],
                    "id2label": {"0": "a", "1": "b"}, "window_size": 7}  # fmt: skip
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224},
                 "resample": 3, "image_mean": [0.5], "image_std": [0.5]}  # fmt: skip
    toml = (
        'name = "x"\nimage_size = 32\nembed_dim = 4\ndepths = [1, 1]\nnum_heads = [1, 1]\n'
        "window_size = 4\n[preprocessing]\ncrop = 0.9\n"
    )
    checks = {"schema_version": 2, "passed": True, "comparisons": [], "reference": "eager"}
    steps = Preprocessing()

    def text(value: object) -> bytes:
        return json.dumps(value).encode()

    def report(path: Path) -> None:
        read_content(path, recognise(path))

    return {
        "onnx": Kind("x.onnx", _onnx(), _read_onnx),
        "npy": Kind("x.npy", _array(False), _read_array),
        "npz": Kind("x.npz", _array(True), _read_array),
        "saved outputs": Kind("x.npz", _saved(folder), saved.read_outputs),
        "statistics": Kind("x.npz", _cache(folder), lambda p: read_cache(p, _IDENTITY, _quiet)),
        "listing": Kind("x.json", text(listing), lambda p: from_dict(load_json(p), str(p))),
        "inspector": Kind(
            "x.json", text(inspected), lambda p: read_inspector(p.read_text(errors="replace"))
        ),
        "class names": Kind("x.json", text(["a", "b"]), read_class_names),
        "class map": Kind(
            "x.json", text({"0": ["n01440764", "tench"]}), lambda p: read_class_map(p, 1)
        ),
        "class list": Kind("x.txt", b"n01440764\nn01443537\n", lambda p: read_class_map(p, 2)),
        "photo list": Kind("x.txt", b"a.png 1\n# x\n'b c.png' 2\n", read_lines),
        "timm": Kind("config.json", text(timm), lambda p: read_sidecars(p, None, _Silent())),
        "transformers": Kind(
            "config.json", text(transformers), lambda p: read_sidecars(p, None, _Silent())
        ),
        "processor": Kind(
            "preprocessor_config.json",
            text(processor),
            lambda p: read_sidecars(None, p, _Silent()),
        ),
        "toml": Kind("x.toml", toml.encode(), lambda p: stage_geometry(read_config(p).config)),
        "journal": Kind(
            "x.partial", b'{"kind": "evaluate", "identity": {"a": [1]}}\n', _read_journal
        ),
        "report": Kind("verify.json", text(checks), report),
        "digits": Kind("x.csv.gz", _gzipped(), load_mnist_5k),
        **{
            form: Kind(f"x.{form.lower()}", _photo(form), lambda p: load_photo(p, (8, 8), steps))
            for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
        },
    }


def _gzipped() -> bytes:
    return gzip.compress((",".join(["0"] * 785) + "\n").encode())


def damaged(content: bytes, choose: random.Random) -> bytes:
    """The file with bytes changed, taken out or put in."""
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        at, what = choose.randrange(len(changed) + 1), choose.randrange(6)
        if what == 0:
            changed[at : at + 1] = bytes([choose.randrange(256)])
        elif what == 1:
            bit = 1 << choose.randrange(8)
            changed[at : at + 1] = bytes(byte ^ bit for byte in changed[at : at + 1])
        elif what == 2:
            del changed[at : at + choose.choice((1, 2, 8, 100, len(changed)))]
        elif what == 3:
            changed[at:at] = choose.choice(_TEXTS)
        elif what == 4:  # a number or a word in a text becomes another
            end = at
            while end < len(changed) and chr(changed[end]).isalnum():
                end += 1
            changed[at:end] = choose.choice(_TEXTS)
        else:
            changed[at : at + 4] = choose.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\x7f\0\0")
            )
    return bytes(changed)


def fuzz(folder: Path, kind: Kind, count: int, seed: int = 0) -> Counter[str]:
    """As ``checkpoints.fuzz``, of another kind."""
    choose, outcomes = random.Random(seed), Counter[str]()
    path = folder / kind.name
    for _ in range(count):
        path.write_bytes(damaged(kind.content, choose))
        signal.alarm(LIMIT_S)  # whose signal ends the process
        try:
            kind.read(path)
            outcomes["read"] += 1
        except SwinDeployError as error:
            outcomes[error.code] += 1
        signal.alarm(0)
    path.unlink(missing_ok=True)
    return outcomes
