"""Multi-label and regression networks from a checkpoint to a bundle, and their figures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from published import edit, save_transformers
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.engine.runners.ends import expose_logits
from swin_deploy.graph.export import read_ends
from swin_deploy.network.interface import Interface, OutputActivation, Task, describe_outputs
from swin_deploy.network.judge import sigmoid
from swin_deploy.run.finished import require_run
from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.images import to_prediction
from tasks import COMMON, NAMES, as_csv, built, evaluated, export, figures, lines, refused


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index in range(12):
        pixels = generator.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels // (index + 1)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a multi-label network whose graph gives probabilities."""
    root = tmp_path_factory.mktemp("several")
    (root / "names.txt").write_text("\n".join(NAMES))
    return export(root, 3, "--activation", "sigmoid", "--classes", str(root / "names.txt"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a regression network with two outputs."""
    return export(tmp_path_factory.mktemp("numbers"), 2, "--task", "regression")


@pytest.fixture(scope="module")
def several_built(several: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(several, tmp_path_factory.mktemp("several built"))


@pytest.fixture(scope="module")
def numbers_built(numbers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(numbers, tmp_path_factory.mktemp("numbers built"))


def test_the_graph_gives_a_sigmoid_and_the_run_says_what_it_means(several: Path) -> None:
    run = require_run(several)
    assert run.interface == Interface(activation="sigmoid", task="multi-label")
    assert run.labels == NAMES
    assert list(read_ends(several / "model.onnx")[1]) == ["probabilities"]
    rows = json.loads((several / "verify.json").read_text())["comparisons"]
    assert any(row["output"] == "probabilities" for row in rows)
    assert any(row["candidate"].endswith(", before its ends") for row in rows)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--activation", "softmax", "--task", "multi-label"], "--activation sigmoid"),
        (["--activation", "sigmoid", "--task", "single-label"], "--task multi-label"),
        (["--activation", "sigmoid", "--task", "regression"], "--activation none"),
        (["--softmax", "--activation", "sigmoid"], "contradict each other"),
        (["--topk", "1", "--task", "regression"], "no --topk"),
        (["--activation", "sigmoid", "--outputs", "stages"], "are of logits"),
    ],
)
def test_what_contradicts_itself(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_timm().state_dict(), tmp_path / "plain.pth")
    command = ["export", "--weights", tmp_path / "plain.pth", *COMMON, *options]
    assert says in refused(capsys, 2, *command)


@pytest.mark.parametrize(
    ("activation", "problem"), [("Sigmoid", ""), ("Relu", "made by FusedGemm, not Sigmoid")]
)
def test_a_sigmoid_that_was_fused_into_its_product_is_looked_behind(
    activation: str, problem: str
) -> None:
    fused = helper.make_node(
        *("FusedGemm", ["x", "w", "b"], ["probabilities"]),
        domain="com.microsoft",
        activation=activation,
        transB=1,
    )
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(weights[:, 0], "b")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3]), ("probabilities", [1, 2]))
    ]
    graph = helper.make_graph([fused], "g", ends[:1], ends[1:], given)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    interface = Interface(activation="sigmoid", task="multi-label")
    if problem:
        with pytest.raises(VerificationError, match=problem):
            expose_logits(content, interface, "x.onnx")
        return
    exposed, name = expose_logits(content, interface, "x.onnx")
    session = ort.InferenceSession(exposed, providers=["CPUExecutionProvider"])
    x = np.array([[1.0, -0.5, 0.25]], np.float32)
    probabilities, logits = session.run(["probabilities", name], {"x": x})
    np.testing.assert_allclose(logits, x @ weights.T + weights[:, 0], rtol=1e-6)
    np.testing.assert_allclose(probabilities, sigmoid(logits), rtol=1e-5)


def test_one_output_is_given_no_softmax_and_may_be_a_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_timm(num_classes=1).state_dict(), tmp_path / "plain.pth")
    command = ["export", "--weights", tmp_path / "plain.pth", *COMMON, "--out", tmp_path / "run"]
    assert "is 1 whatever it sees" in refused(capsys, 2, *command, "--softmax")
    told = lines(capsys, "inspect", tmp_path / "plain.pth", "--image", "64")
    assert any("one number, and nothing says of what" in line for line in told)
    assert cli.run(list(map(str, [*command, "--activation", "sigmoid"]))) == 0
    assert require_run(tmp_path / "run").interface.task == "multi-label"


def test_the_user_goes_before_the_folder_and_the_folder_before_the_activation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_transformers(tmp_path / "folder")
    edit(folder / "config.json", problem_type="multi_label_classification")
    said = json.loads("\n".join(lines(capsys, "inspect", folder, "--json")))
    assert said["task"] == "multi-label"
    assert said["outputs"] == describe_outputs("multi-label", 5)
    command = ["export", "--weights", folder, "--softmax", "--out", tmp_path / "run"]
    command += ["--target", "cpu", "--precision", "fp32"]
    assert "--task single-label" in refused(capsys, 2, *command)
    said = json.loads(
        "\n".join(lines(capsys, "inspect", folder, "--task", "single-label", "--json"))
    )
    assert said["task"] == "single-label"
    assert "task single-label as you say, in place of multi-label" in said["notes"]
    assert "--task single-label" in said["next"]


def test_predict_tells_every_label_and_those_that_hold(
    several_built: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photos / "0.png"
    with SwinEngine.load(several_built) as engine:
        found = engine(photo)
    assert (found.task, found.probabilities) == ("multi-label", True)
    assert found.scores.shape == (1, 3)
    scores = dict(zip(found.labels[0], found.scores[0].tolist(), strict=True))
    second = sorted(scores.values())[1]
    held = [name for name in found.labels[0] if scores[name] >= second]
    assert len(held) == 2

    told = lines(capsys, "predict", several_built, photo, "--threshold", second)
    assert told[0] == f"{photo}: {', '.join(held)}"
    assert [line.split()[1] == "*" for line in told[1:]] == [True, True, False]
    none = lines(capsys, "predict", several_built, photo, "--threshold", "1")
    assert none[0] == f"{photo}: no label"
    (row,) = lines(
        *(capsys, "predict", several_built, photo, "--threshold", second, "--format", "jsonl")
    )
    assert json.loads(row)["labels"] == held
    assert json.loads(row)["task"] == "multi-label"
    table = lines(
        *(capsys, "predict", several_built, photo, "--threshold", second, "--format", "csv")
    )
    cells = list(csv.DictReader(io.StringIO("\n".join(table))))
    assert [cell["label"] for cell in cells if cell["holds"] == "1"] == held


def test_predict_tells_numbers_in_their_order(
    numbers_built: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SwinEngine.load(numbers_built) as engine:
        found = engine(photos / "0.png", k=1)
        described = engine.shipped.interface
    assert described.task == "regression"
    assert found.classes.tolist() == [[0, 1]]
    np.testing.assert_array_equal(found.scores, found.logits)
    told = lines(capsys, "predict", numbers_built, photos / "0.png")
    assert [line.split()[1] for line in told[1:]] == ["0", "1"]
    assert "%" not in "".join(told[1:])
    for option in ("--threshold", "--top"):
        text = refused(capsys, 2, "predict", numbers_built, photos / "0.png", option, "1")
        assert f"{option} is of" in text


def test_best_logits_of_labels_become_probabilities() -> None:
    outputs = {"scores": np.array([[2.0, -1.0]], np.float32), "classes": np.array([[1, 0]])}
    found = to_prediction(outputs, Interface(topk=2, task="multi-label"), (), (None,))
    np.testing.assert_allclose(found.scores, sigmoid(outputs["scores"]), rtol=1e-6)
    assert found.probabilities


@pytest.mark.parametrize(
    ("activation", "task"),
    [("softmax", "multi-label"), ("sigmoid", "single-label"), ("sigmoid", "regression")],
)
def test_an_activation_has_one_meaning(activation: OutputActivation, task: Task) -> None:
    with pytest.raises(ConfigError, match=f"and the outputs of this network are .*--task {task}"):
        Interface(activation=activation, task=task)


def test_a_bundle_says_what_its_outputs_mean(
    several_built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from swin_deploy.runtime import main as device

    assert device.run(["info"], "swin.pyz", several_built) == 0
    assert "3 independent labels" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["csv", "json"])
def test_figures_of_labels_are_those_of_the_predictions(
    form: str,
    several: Path,
    several_built: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = sorted(path.name for path in photos.iterdir())
    with SwinEngine.load(several_built) as engine:
        found = engine([photos / name for name in names])
    scores = np.take_along_axis(found.scores, np.argsort(found.classes, axis=1), axis=1)
    truth = scores > np.median(scores, axis=0)  # as a network does that is always right
    held = [[NAMES[i] for i in np.flatnonzero(row)] for row in truth]
    if form == "csv":
        rows = [("path", "labels"), *((n, "|".join(h)) for n, h in zip(names, held, strict=True))]
        listed = as_csv(tmp_path / "list.csv", rows)
    else:
        listed = tmp_path / "list.json"
        listed.write_text(
            json.dumps([{"path": n, "labels": h} for n, h in zip(names, held, strict=True)])
        )
    threshold = str(float(np.median(scores)))
    out = tmp_path / "scores.json"
    report = evaluated(
        *(capsys, several, "--data", photos, "--labels", listed),
        *("--threshold", threshold, "--out", out),
    )
    assert report["kind"] == "scores"
    assert json.loads(out.read_text())["artifacts"] == report["artifacts"]
    eager, engine_row = report["artifacts"]
    assert "eager" in eager["name"]
    assert figures(engine_row)["mAP"] == 1
    said = scores >= float(threshold)
    right = int((said & truth).sum())
    micro = 2 * right / (int(said.sum()) + int(truth.sum()))
    assert figures(engine_row)["F1 micro"] == pytest.approx(micro)
    (pair,) = report["pairs"]
    assert pair["largest"] < 1e-4
    assert pair["decided_differently"] <= 1
    assert figures(pair)["mAP"] == pytest.approx(0, abs=0.1)
    for row in report["artifacts"]:
        for figure in row["figures"]:
            assert figure["interval"][0] <= figure["value"] <= figure["interval"][1] + 1e-12


def test_errors_of_numbers(
    numbers: Path,
    numbers_built: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = sorted(path.name for path in photos.iterdir())
    with SwinEngine.load(numbers_built) as engine:
        values = engine([photos / name for name in names]).scores.astype(np.float64)
    off = np.array([1.0, -3.0])
    rows = [(n, *map(repr, (v + off).tolist())) for n, v in zip(names, values, strict=True)]
    listed = as_csv(tmp_path / "list.csv", rows)
    report = evaluated(
        *(capsys, numbers, "--data", photos, "--labels", listed, "--out", tmp_path / "s.json"),
        *("--workers", "2"),
    )
    for row in report["artifacts"]:
        assert figures(row)["MAE"] == pytest.approx(2, rel=1e-4)
        assert figures(row)["RMSE"] == pytest.approx(5**0.5, rel=1e-4)
    assert report["threshold"] is None
    told = lines(
        *(capsys, "evaluate", numbers, "--data", photos, "--labels", listed),
        *("--out", tmp_path / "s.json"),
    )
    assert any("RMSE" in line for line in told)


BAD_LISTS = {
    "no list": ("list.txt", "0.png ant\n", "is no list of photos for a multi-label network"),
    "label": ("list.csv", "0.png,dog\n", "is no class"),
    "cells": ("list.csv", "0.png,ant,bee\n", "2 cells after the path"),
    "photo": ("list.csv", "none.png,ant\n", "are no files"),
    "twice": ("list.csv", "0.png,ant\n0.png,bee\n", "lists photos more than once: 0.png"),
    "empty": ("list.csv", "path,labels\n", "lists no photos"),
    "no label": ("list.csv", "0.png,\n", "no label holds of any"),
    "values": ("list.json", '[{"path": "0.png", "values": [1]}]', "entry 1 has no labels"),
    "json": ("list.json", "{", "is not JSON"),
}


@pytest.mark.parametrize(("name", "content", "says"), BAD_LISTS.values(), ids=BAD_LISTS.keys())
def test_lists_of_labels_that_are_none(
    name: str,
    content: str,
    says: str,
    several: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_text(content)
    command = ["evaluate", several, "--data", photos, "--labels", tmp_path / name]
    assert says in refused(capsys, 3, *command)


@pytest.mark.parametrize("content", ["0.png,1\n", "0.png,1,a\n", "0.png,1,nan\n"])
def test_lists_of_numbers_that_are_none(
    content: str, numbers: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text(content)
    command = ["evaluate", numbers, "--data", photos, "--labels", tmp_path / "list.csv"]
    assert "the network gives 2 numbers" in refused(capsys, 3, *command)


@pytest.mark.parametrize(
    "options", [["--sorted-folders"], ["--class-map", "names.txt"], ["--flips", "flips"]]
)
def test_what_is_of_classes_alone(
    options: list[str],
    several: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = as_csv(tmp_path / "list.csv", [("0.png", "ant")])
    command = ["evaluate", several, "--data", photos, "--labels", listed, *options]
    assert f"{options[0]} is of classes" in refused(capsys, 2, *command)


def test_a_threshold_of_what_has_none(
    numbers: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = as_csv(tmp_path / "list.csv", [("0.png", "1", "2")])
    command = ["evaluate", numbers, "--data", photos, "--labels", listed, "--threshold", "0.5"]
    assert "--threshold is of labels" in refused(capsys, 2, *command)
