"""Files of text and numbers that are fuzzed: reports, journals, lists, and those of libraries."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.subject import Subject, binary, both, text
from mnist import load_mnist_5k
from swin_deploy.core.records import load_json
from swin_deploy.data.classes import parse_class_names
from swin_deploy.data.images import InputSet
from swin_deploy.data.sources import read_lines
from swin_deploy.data.synsets import read_class_map
from swin_deploy.engine.cost.listing import from_dict, read_inspector
from swin_deploy.graph.int8.observe import Calibration, read_cache, write_cache
from swin_deploy.graph.int8.thresholds import measure_tensor
from swin_deploy.measure.evaluate.shards import misfit, open_journal
from swin_deploy.measure.journal import journal_path
from swin_deploy.measure.verify import saved
from swin_deploy.network.checkpoints.sidecar import read_sidecars
from swin_deploy.report.gather import read_content, recognise

_IDENTITY: dict[str, Any] = {"graph": "x", "tensors": ["t"]}


def _quiet(_text: str) -> None:
    """Hears what a reader has to say."""


class _Silent:
    visible = False

    def file(self, name: str, total: int | None) -> Callable[[int], Any]:
        raise AssertionError(f"{name} ({total} bytes) would be fetched")

    def note(self, _text: str) -> None:
        """As ``_quiet``."""


def _json(value: object) -> dict[str, bytes]:
    return {"whole": json.dumps(value).encode()}


def _bytes(content: bytes) -> dict[str, bytes]:
    return {"whole": content}


def _written(write: Callable[[Path], None]) -> dict[str, bytes]:
    """What a writer that only knows paths makes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npz"
        write(path)
        return {"whole": path.read_bytes()}


def _write_saved(path: Path) -> None:
    inputs = [InputSet("noise", np.zeros((1, 3, 4, 4), np.float32), False)]
    header = {"run": "x", "sides": {"onnx": {"precision": "fp32"}}}
    saved.save_outputs(path, header, inputs, {"onnx": [{"logits": np.zeros((1, 2), np.float32)}]})


def _write_statistics(path: Path) -> None:
    statistics = {"t": measure_tensor(np.ones((1, 4), np.float32), 1, weight=1)}
    write_cache(path, _IDENTITY, Calibration(1, False, statistics))


def _read_statistics(path: Path) -> object:
    return read_cache(path, _IDENTITY, _quiet)


def _read_journal(path: Path) -> None:
    report = path.with_name("evaluate.json")
    path.replace(journal_path(report))
    with open_journal(
        report, {"a": [1]}, _quiet, partial(misfit, shards=[], artifacts=1, classes=2)
    ):
        pass


def _read_listing(path: Path) -> object:
    return from_dict(load_json(path), str(path))


def _read_inspector(path: Path) -> object:
    return read_inspector(path.read_text(errors="replace"))


def _read_config(path: Path) -> object:
    return read_sidecars(path, None, _Silent())


def _read_processor(path: Path) -> object:
    return read_sidecars(None, path, _Silent())


def _read_names(path: Path) -> object:
    return parse_class_names(path.read_bytes(), path)


def _read_map(classes: int, path: Path) -> object:
    return read_class_map(path, classes)


def _read_report(path: Path) -> object:
    return read_content(path, recognise(path))


def _digits() -> dict[str, bytes]:
    return _bytes(gzip.compress((",".join(["0"] * 785) + "\n").encode()))


_TENSOR = {"Name": "o", "Dimensions": [1, 2], "Format/Datatype": "Float"}
_LAYER = {"Name": "k", "LayerType": "gemm", "Inputs": [_TENSOR], "Outputs": [_TENSOR]}
_INSPECTED = {"Layers": [_LAYER | {"Metadata": "[ONNX Layer: a]"}], "Bindings": ["o"]}
_KERNEL = {
    "name": "k",
    "kind": "gemm",
    "inputs": [{"dtype": "Float", "dims": [1, 2]}],
    "constants": [],
    "outputs": [{"dtype": "Half", "dims": [2]}],
    "onnx_nodes": ["a"],
}
_STEPS = {"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}
_TIMM = {
    "architecture": "swin_tiny_patch4_window7_224",
    "num_classes": 10,
    "pretrained_cfg": _STEPS,
    "model_args": {"img_size": 224, "window_size": 7},
}
_TRANSFORMERS = {
    "model_type": "swin",
    "image_size": 224,
    "patch_size": 4,
    "depths": [2, 2],
    "id2label": {"0": "a", "1": "b"},
    "window_size": 7,
}
_PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.5],
    "image_std": [0.5],
}
_LISTING = {"schema_version": 1, "problem": "", "kernels": [_KERNEL]}
_CHECKS = {"schema_version": 2, "passed": True, "comparisons": [], "reference": "eager"}
_JOURNAL = b'{"kind": "evaluate", "identity": {"a": [1]}}\n'
_PHOTOS = b"a.png 1\n# x\n'b c.png' 2\n"


def _subject(value: object, read: Callable[[Path], object]) -> Subject:
    return Subject(".json", partial(_json, value), read, text)


RECORDS = {
    "record": _subject({"a": [1, 2.5, {"b": None}], "c": "text"}, load_json),
    "classes": _subject(["cat", "dog", "bird"], _read_names),
    "classmap": _subject({"0": ["n01440764", "tench"]}, partial(_read_map, 1)),
    "listing": _subject(_LISTING, _read_listing),
    "inspector": _subject(_INSPECTED, _read_inspector),
    "timm": _subject(_TIMM, _read_config),
    "transformers": _subject(_TRANSFORMERS, _read_config),
    "processor": _subject(_PROCESSOR, _read_processor),
    "report": _subject(_CHECKS, _read_report),
    "classlist": Subject(
        ".txt", partial(_bytes, b"n01440764\nn01443537\n"), partial(_read_map, 2), text
    ),
    "photolist": Subject(".txt", partial(_bytes, _PHOTOS), read_lines, text),
    "journal": Subject(".partial", partial(_bytes, _JOURNAL), _read_journal, text),
    "saved": Subject(".npz", partial(_written, _write_saved), saved.read_outputs, both),
    "statistics": Subject(".npz", partial(_written, _write_statistics), _read_statistics, both),
    "digits": Subject(".csv.gz", _digits, load_mnist_5k, binary),
}
