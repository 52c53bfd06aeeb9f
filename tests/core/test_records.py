"""JSON from anywhere: what is no honest file is refused by kind, and every type is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest

from swin_deploy.core.errors import InputError
from swin_deploy.core.files import read_json
from swin_deploy.core.records import MAX_DEPTH, decode, load_json, parse_json
from swin_deploy.data.classes import parse_class_names
from swin_deploy.data.synsets import read_class_map
from swin_deploy.engine.cost.listing import read_inspector
from swin_deploy.graph.interface import read_image_input
from swin_deploy.measure.evaluate.shards import open_journal
from swin_deploy.measure.journal import journal_path
from swin_deploy.measure.verify.saved import HEADER, read_outputs
from swin_deploy.network.checkpoints.sidecar import is_timm
from swin_deploy.network.interface import BatchRange
from swin_deploy.runtime.trust import parse_bundle


@dataclass(frozen=True, kw_only=True)
class Inner:
    sizes: tuple[int, int]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Literal["a", "b"]
    share: float
    batch: BatchRange
    inner: Inner | None = None
    by_name: dict[str, Inner] | None = None
    rest: Any = None


WHOLE = Outer(
    kind="a",
    share=0.5,
    batch=BatchRange(low=1, high=4),
    inner=Inner(sizes=(1, 2), names=("x",)),
    by_name={"y": Inner(sizes=(3, 4))},
    rest={"free": [1, None]},
)


def as_json() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(asdict(WHOLE)))
    return value


def test_what_was_written_comes_back_equal() -> None:
    assert decode(Outer, as_json(), "file") == WHOLE


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("kind",), "c", "kind is \"c\", not one of 'a', 'b'"),
        (("kind",), None, "kind is null"),
        (("share",), "0.5", 'share is "0.5", not a number'),
        (("share",), True, "share is true"),
        (("batch",), 7, "batch is 7, not an object"),
        (("batch", "low"), 9, "batch is"),  # above high
        (("batch", "low"), 1.5, "batch.low is 1.5, not an integer"),
        (("batch", "x"), 1, "batch.x is 1, not a key"),
        (("inner", "sizes"), [1], "inner.sizes is [1], not an array of 2"),
        (("inner", "sizes"), [1, "2"], 'inner.sizes[1] is "2"'),
        (("by_name", "y", "names"), {}, "by_name.y.names is {}"),
        (("by_name",), [], "by_name is []"),
    ],
)
def test_what_does_not_fit_is_named_with_both_values(
    path: tuple[str, ...], value: object, words: str
) -> None:
    data = as_json()
    place = data
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(InputError) as caught:
        decode(Outer, data, "file")
    assert caught.value.problem.startswith("file: ")
    assert words in caught.value.problem


@pytest.mark.parametrize("key", ["kind", "share", "batch"])
def test_a_missing_key_is_named(key: str) -> None:
    data = as_json()
    del data[key]
    with pytest.raises(InputError, match=f"{key} is"):
        decode(Outer, data, "file")


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b'"\\ud800"',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b'"' + b'\\"' * 2_000_000,  # never closed, and read once
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)
def test_what_is_no_honest_json_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="file"):
        parse_json(content, "file")


def test_brackets_in_strings_are_not_nesting() -> None:
    deep = "[" * 1000 + '\\"' + "{" * 1000
    assert parse_json(json.dumps({"a": deep}).encode(), "file") == {"a": deep}
    assert parse_json(b'"\\ud83d\\ude00"', "file") == "\U0001f600"  # a whole pair


@pytest.mark.parametrize("content", ["[]", "1", "null"])
def test_a_record_is_an_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="object"):
        load_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="exist"):
        load_json(tmp_path / "none.json")


def read_saved(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), **{HEADER: np.frombuffer(path.read_bytes(), np.uint8)})
    read_outputs(path.with_suffix(".npz"))


def read_metadata(path: Path) -> None:
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 2, 2, 3])
    nodes = [onnx.helper.make_node("Identity", ["image"], ["same"])]
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.UINT8, [1, 2, 2, 3])
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [image], [same]))
    said = {"image.mean": path.read_bytes().decode("latin-1"), "image.std": "[1.0]"}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, path.with_suffix(".onnx"))
    read_image_input(path.with_suffix(".onnx"))


READERS: dict[str, Callable[[Path], object]] = {
    "names of classes": lambda path: parse_class_names(path.read_bytes(), path),
    "a class map": lambda path: read_class_map(path, 2),
    "what lies beside a checkpoint": is_timm,
    "the inspector": lambda path: read_inspector(path.read_bytes().decode("latin-1")),
    "a bundle": lambda path: parse_bundle(path.parent, path.read_bytes(), ""),
    "saved outputs": read_saved,
    "a graph of pixels": read_metadata,
}
DISHONEST = {
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "depth": b"[" * 20_000 + b"]" * 20_000,
    "cut off": b'{"a": 1',
    "another kind": b"7",
}


@pytest.mark.parametrize("content", DISHONEST.values(), ids=DISHONEST.keys())
@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_every_reader_of_json_refuses_what_is_none(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("content", DISHONEST.values(), ids=DISHONEST.keys())
def test_records_of_ours_that_are_damaged_are_made_again(tmp_path: Path, content: bytes) -> None:
    report, notes = tmp_path / "evaluate.json", list[str]()
    report.write_bytes(content)
    assert read_json(report) is None
    report.unlink()
    journal_path(report).write_bytes(content + b"\n")
    with open_journal(report, {"of": "this"}, notes.append, lambda result: "") as journal:
        assert not journal.done
    assert any("starting again" in note for note in notes)
