"""Graphs that are damaged, hostile or too new: each command ends with the code of its kind."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from swin_deploy.cli import main as cli
from swin_deploy.core.errors import EnvironmentMissingError, InputError, ResourceError, UnsafeError
from swin_deploy.core.onnx_file import read_onnx
from swin_deploy.engine.runners import onnxruntime as trial
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner

IMAGE = ("b", 1, 32, 32)  # of swin_pocket
SCORES = ("b", 10)
Make = Callable[[Path], None]


def value(name: str, shape: tuple[int | str, ...], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    weights: dict[str, Any] | None = None,
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", IMAGE)] if inputs is None else inputs,
        [value("logits", SCORES)] if outputs is None else outputs,
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return model


WEIGHTS = {"matrix": np.ones((1024, 10), np.float32), "shape": np.array([0, -1], np.int64)}
FLAT = helper.make_node("Reshape", ["image", "shape"], ["flat"], name="flat")
HEAD = helper.make_node("MatMul", ["flat", "matrix"], ["logits"], name="head")


def whole(path: Path) -> onnx.ModelProto:
    return save(path, [FLAT, HEAD], weights=WEIGHTS)


def changed(**fields: Any) -> Make:
    def make(path: Path) -> None:
        model = whole(path)
        for name, content in fields.items():
            setattr(model, name, content)
        path.write_bytes(model.SerializeToString())

    return make


def external(location: str, prepare: Callable[[Path], object] = lambda folder: None) -> Make:
    """The weights of the head lie elsewhere; entries but the location are as they should be."""

    def make(path: Path) -> None:
        model = whole(path)
        tensor = next(t for t in model.graph.initializer if t.name == "matrix")
        content = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        said = {"location": location, "length": str(len(content))}
        for key, text in said.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
        (path.parent.parent / "secret.bin").write_bytes(content)
        prepare(path.parent)
        path.write_bytes(model.SerializeToString())

    return make


def loop_for_ever(path: Path) -> None:
    """A Loop whose condition stays true, of 2^62 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going on"]),
            helper.make_node("Relu", ["x"], ["y"]),
        ],
        "body",
        [value("turn", (), TensorProto.INT64), value("going", (), TensorProto.BOOL),
         value("x", SCORES)],
        [value("going on", (), TensorProto.BOOL), value("y", SCORES)],
    )  # fmt: skip
    turns = {"turns": np.array(2**62, np.int64), "true": np.array(True)}
    first = helper.make_node("MatMul", ["flat", "matrix"], ["start"], name="head")
    loop = helper.make_node("Loop", ["turns", "true", "start"], ["logits"], name="loop", body=body)
    save(path, [FLAT, first, loop], weights=WEIGHTS | turns)


def many_numbers(path: Path) -> None:
    shape = {"many": np.array([2**20, 2**20], np.int64), "zero": np.array([0], np.int64)}
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["huge"], name="huge"),
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0, name="one"),
        helper.make_node("MatMul", ["flat", "matrix"], ["plain"], name="head"),
        helper.make_node("Add", ["plain", "one"], ["logits"], name="add"),
    ]
    save(path, [FLAT, *nodes], weights=WEIGHTS | shape)


def out_of_range(path: Path) -> None:
    rows = {"rows": np.array([2000], np.int64)}
    nodes = [helper.make_node("Gather", ["flat", "rows"], ["logits"], axis=1, name="gather")]
    save(path, [FLAT, *nodes], outputs=[value("logits", ("b", 1))], weights=WEIGHTS | rows)


def two_inputs(path: Path) -> None:
    nodes = [FLAT, helper.make_node("MatMul", ["flat", "more"], ["logits"], name="head")]
    save(path, nodes, [value("image", IMAGE), value("more", (1024, 10))], weights=WEIGHTS)


def strings(path: Path) -> None:
    ends = [value(name, ("b",), TensorProto.STRING) for name in ("image", "logits")]
    save(path, [helper.make_node("Identity", ["image"], ["logits"], name="x")], ends[:1], ends[1:])


def no_outputs(path: Path) -> None:
    save(path, [FLAT, HEAD], outputs=[], weights=WEIGHTS)


def unknown_type(path: Path) -> None:
    ends = [value(name, IMAGE, 99) for name in ("image", "logits")]
    save(path, [helper.make_node("Identity", ["image"], ["logits"], name="x")], ends[:1], ends[1:])


def no_text(path: Path) -> None:
    whole(path)
    path.write_bytes(path.read_bytes().replace(b"image", b"im\xff\xfee"))


GRAPHS: dict[str, tuple[Make, int]] = {
    "empty": (lambda path: path.write_bytes(b"") and None, 3),
    "a web page": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>") and None, 3),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 4) and None, 3),
    "cut off": (lambda path: os.truncate(path, whole(path).ByteSize() - 9), 3),
    "unknown type": (unknown_type, 3),
    "a name that is no text": (no_text, 3),
    "two inputs": (two_inputs, 3),
    "strings": (strings, 3),
    "no outputs": (no_outputs, 3),
    "out of range": (out_of_range, 3),
    "2^40 numbers": (many_numbers, 6),
    "opset 99": (lambda path: save(path, [FLAT, HEAD], weights=WEIGHTS, opset=99) and None, 4),
    "IR version 99": (changed(ir_version=99), 4),
    "weights above": (external("../secret.bin"), 8),
    "weights at an absolute path": (external("/etc/hostname"), 8),
    "weights through a link": (
        external("w.bin", lambda folder: (folder / "w.bin").symlink_to("../secret.bin")),
        8,
    ),
    "weights through a hard link": (
        external("w.bin", lambda folder: os.link(folder.parent / "secret.bin", folder / "w.bin")),
        8,
    ),
    "no weights": (external("missing.bin"), 3),
}
STATIC = {"two inputs", "strings", "no outputs", "out of range", "2^40 numbers"}  # valid as such

COMMANDS = {
    "cost": "cost {graph}",
    "bench": "bench {graph} --variant swin_pocket --rounds 2",
    "evaluate": "evaluate {graph} --data {photos} --variant swin_pocket --out {out} --limit 8",
    "verify": "verify {run} --between eager,{graph}",
}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of a graph in this process, which these graphs do no harm."""

    def run(function: Callable[..., Any], log: Path, limit_s: float, *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(trial, "run_in_child", run)


def command(name: str, graph: Path, held_out: Path, run: Path) -> list[str]:
    places = {"graph": graph, "photos": held_out, "run": run, "out": graph.parent / "report.json"}
    quoted = {key: shlex.quote(str(path)) for key, path in places.items()}
    return shlex.split(COMMANDS[name].format(**quoted))


@pytest.mark.fault(14, 15, 16, 19)
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_every_command_has_the_code_of_the_damage(
    kind: str,
    name: str,
    tmp_path: Path,
    held_out: Path,
    digits_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "cost" and kind in STATIC:
        pytest.skip("only who runs it finds out")
    make, code = GRAPHS[kind]
    graph = tmp_path / "here" / "x.onnx"
    graph.parent.mkdir()
    make(graph)
    assert cli.run(command(name, graph, held_out, digits_run)) == code, capsys.readouterr().err
    said = capsys.readouterr().err
    assert said.count("error[") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["bench", "evaluate", "verify"])
def test_a_graph_that_never_ends_is_stopped(
    name: str,
    tmp_path: Path,
    held_out: Path,
    digits_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trial, "LIMIT_S", 5.0)
    loop_for_ever(graph := tmp_path / "x.onnx")
    start = time.monotonic()
    assert cli.run(command(name, graph, held_out, digits_run)) == 6
    assert time.monotonic() - start < 60
    said = capsys.readouterr().err
    assert "was stopped after 5 s" in said
    assert f"-m swin_deploy.engine.runners.onnxruntime {graph} 1 32 32" in said


def test_a_graph_that_takes_its_process_along_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_run_once", die)
    whole(graph := tmp_path / "x.onnx")
    with pytest.raises(
        ResourceError, match=r"died of SIGSEGV.*-m swin_deploy.engine.runners.onnxruntime"
    ):
        trial.require_runs(OnnxRuntimeRunner(graph), (1, 32, 32))


def die(*arguments: object) -> None:
    os.kill(os.getpid(), 11)


def test_a_whole_graph_runs(tmp_path: Path) -> None:
    whole(graph := tmp_path / "x.onnx")
    trial.require_runs(OnnxRuntimeRunner(graph), (1, 32, 32))
    assert len(read_onnx(graph, infer=True).graph.node) == 2


@pytest.mark.fault(14, 16, 19)
@pytest.mark.parametrize(
    ("kind", "error"),
    [("opset 99", EnvironmentMissingError), ("weights above", UnsafeError), ("noise", InputError)],
)
def test_the_kinds_of_the_library(kind: str, error: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    GRAPHS[kind][0](tmp_path / "here" / "x.onnx")
    with pytest.raises(error, match=r"x\.onnx"):
        read_onnx(tmp_path / "here" / "x.onnx")


BOUNDS = {  # value -> what a hint could try for ever
    "window_size = 1000000007": "",
    "image_size = 1000000007": "",
    "image_size = 15485863": "size",
    "depths = [1000000007]": "",
    "embed_dim = 1000000007": "",
}


@pytest.mark.parametrize("line", BOUNDS)
def test_a_network_of_any_size_is_refused_soon(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"image_size": 32, "embed_dim": 16, "depths": [2], "num_heads": [1], "window_size": 4}
    name, number = line.split(" = ")
    text = "\n".join(f"{k} = {v}" for k, v in (keys | {name: json.loads(number)}).items())
    (tmp_path / "x.toml").write_text(text)
    start = time.monotonic()
    assert cli.run(["export", "--config", str(tmp_path / "x.toml"), "--out", str(tmp_path)]) == 2
    assert time.monotonic() - start < 10
