"""New weights into an engine. Without a GPU, all but the call of the refitter itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import save_file

from conftest import POCKET, Silent
from manifests import edit_manifest
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    InputError,
    UnsafeError,
)
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.engine.open import why_not_here
from swin_deploy.engine.options import BuildOptions, Written, written
from swin_deploy.engine.targets import TARGETS
from swin_deploy.graph.structure import require_same_network
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import Hints
from swin_deploy.network.checkpoints.source import Facts, Source
from swin_deploy.network.model.build import build_model
from swin_deploy.pipeline import refit
from swin_deploy.pipeline.refit import find_refittable, refit_engine, refit_request
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.run.details import MANIFEST

Edit = Callable[[dict[str, Any]], None]


def edited(run: Path, folder: Path, edit: Edit) -> Path:
    """A copy of a run with another manifest; the path of its plan."""
    shutil.copytree(run, folder)
    edit_manifest(folder, lambda m: edit(m["stages"]["engine:rtx-fp16"]["details"]))
    return folder / "engines" / "rtx-fp16.plan"


def refittable(details: dict[str, Any]) -> None:
    details["settings"]["flags"] += ["REFIT", "STRIP_PLAN"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The pocket network with other weights."""
    path = tmp_path / "tuned.safetensors"
    save_file(dict(build_model(POCKET.config, seed=5).named_parameters()), path)
    return path


def test_an_engine_that_was_not_built_for_it_says_how(
    fixed_run: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    plan = fixed_run / "engines" / "rtx-fp16.plan"
    with pytest.raises(ConfigError, match="not built refittable") as caught:
        find_refittable(plan)
    assert "--refittable" in caught.value.hint
    assert cli.run(["refit", str(plan), "--weights", str(checkpoint)]) == 2
    assert "--refittable" in capsys.readouterr().err


def test_int8_is_refused_with_the_reason(fixed_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(fixed_run, tmp_path / "run"))
    plan = (run / "engines" / "rtx-fp16.plan").rename(run / "engines" / "rtx-int8.plan")

    def rename(manifest: dict[str, Any]) -> None:
        record = manifest["stages"].pop("engine:rtx-fp16")
        record["details"]["precision"] = "int8"
        record["outputs"] = {"engines/rtx-int8.plan": sha256(plan)}
        manifest["stages"]["engine:rtx-int8"] = record

    edit_manifest(run, rename)
    with pytest.raises(ConfigError, match="scales in its graph come from calibrating") as caught:
        find_refittable(plan)
    assert "--calibration" in caught.value.hint


def test_only_recorded_plans_are_refitted(fixed_run: Path, tmp_path: Path) -> None:
    plan = edited(fixed_run, tmp_path / "run", refittable)
    with pytest.raises(UnsafeError, match="is not an engine that"):
        find_refittable(plan.with_suffix(".kernels.json"))
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(UnsafeError, match="was changed"):
        find_refittable(plan)


def test_it_takes_the_gpu(fixed_run: Path, tmp_path: Path) -> None:
    if why_not_here(TARGETS["rtx"]) is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(EnvironmentMissingError, match="cannot be refitted here"):
        find_refittable(edited(fixed_run, tmp_path / "run", refittable))


def test_a_stripped_engine_is_not_run_before(fixed_run: Path) -> None:
    flags = ("STRONGLY_TYPED", "REFIT", "STRIP_PLAN")
    assert "swin-deploy refit" in (why_not_here(TARGETS["rtx"], flags) or "")
    assert "stripped" not in (why_not_here(TARGETS["rtx"]) or "")


def pretend(module: str, plan: Recorded, graph: Path, final: Path) -> tuple[str, Written]:
    """What the refitter leaves behind, without its GPU."""
    print("refitting", graph.name)
    final.write_bytes(plan.read())
    return "1.7", written(graph, final)


def local(path: Path) -> Source:
    return Source(path=path, provenance={"source": "file"})


@pytest.fixture
def plan(fixed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that this machine can refit, as far as it knows."""
    monkeypatch.setattr(refit, "why_not_here", lambda target: None)
    monkeypatch.setattr(refit, "fingerprint_here", lambda *names: None)
    monkeypatch.setattr(refit, "require_match", lambda *sides: None)
    monkeypatch.setattr(refit, "refit_plan", pretend)
    return edited(fixed_run, tmp_path / "run", refittable)


PIXELS = {"image_processor_type": "ViTImageProcessor", "size": 64, "image_mean": [0.1307] * 3}


@pytest.mark.parametrize(
    ("config", "processor", "words"),
    [
        (
            {"problem_type": "multi_label_classification"},
            {},
            ["task multi-label, not single-label"],
        ),
        ({}, PIXELS, ["preprocessing.mean (0.1307, 0.1307, 0.1307), not (0.485, 0.456, 0.406)"]),
        ({"depths": [2, 2, 6]}, {}, ["depths", "2, 2, 6", "2, 2, 2"]),
        ({"id2label": {"0": "a", "1": "b"}}, {}, ["num_classes", "2", "7"]),
    ],
    ids=["task", "preprocessing", "network", "classes"],
)
def test_what_is_said_beside_new_weights_is_of_the_engine_or_they_are_refused(
    plan: Path,
    checkpoint: Path,
    config: dict[str, Any],
    processor: dict[str, Any],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = checkpoint.parent / "tuned"
    folder.mkdir()
    checkpoint.rename(folder / "model.safetensors")
    said = {"model_type": "swin", "image_size": 64} | config
    (folder / "config.json").write_text(json.dumps(said))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    assert cli.run(["refit", str(plan), "--weights", str(folder)]) == 3
    printed = " ".join(capsys.readouterr().err.split())
    assert all(word in printed for word in words), printed
    assert not list(plan.parent.parent.parent.glob("run-*"))


def test_what_is_said_beside_new_weights_is_kept(plan: Path, checkpoint: Path) -> None:
    """An engine takes images of its own size, whatever size the weights are from."""
    found, names = find_refittable(plan), tuple("abcdefg")
    facts = Facts(image_size=(96, 96), window_size=4, labels=names, task="single-label")
    source = replace(local(checkpoint), facts=facts, preprocessing=found.run.preprocessing)
    asked = refit_request(found, source, None, None)
    assert asked.load.hints == Hints(image_size=(96, 96), window_size=4, pretrained_window_sizes=())
    assert load_checkpoint(checkpoint, asked.load).config.image_size == (64, 64)
    assert asked.labels == names
    assert asked.interface == found.run.interface


def test_a_refit_is_a_verified_run_of_its_own(
    plan: Path, tmp_path: Path, checkpoint: Path, listener: Silent
) -> None:
    before = {path: sha256(path) for path in plan.parent.parent.rglob("*") if path.is_file()}
    found = find_refittable(plan)
    source = local(checkpoint)
    with pytest.raises(ConfigError, match="holds the engine that is to be refitted"):
        refit_request(found, source, plan.parent.parent, None)
    result = refit_engine(found, refit_request(found, source, None, None), listener)
    assert result.path == tmp_path / "run-tuned"
    details = result.stages["engine:rtx-fp16"].details
    assert details["refitted_from"] == sha256(plan)
    assert details["settings"]["flags"] == ["STRONGLY_TYPED", "REFIT"]
    assert details["kernels"] == found.engine.details.kernels
    assert result.header["weights"]["file"] == "tuned.safetensors"
    assert "refitting model.fp16.onnx" in (result.path / "engines" / "rtx-fp16.log").read_text()
    assert {row["candidate"] for row in result.verification["comparisons"]} >= {"onnx, fp16"}
    assert before == {path: sha256(path) for path in before}
    # Another network is refused by its checkpoint.
    other = tmp_path / "other.safetensors"
    config = ExportRequest(variant=POCKET, out=tmp_path).variant.config
    wider = type(config)(**{f: getattr(config, f) for f in asdict(config)} | {"num_classes": 9})
    save_file(dict(build_model(wider, seed=1).named_parameters()), other)
    with pytest.raises(InputError):
        refit_engine(found, refit_request(found, local(other), None, None), listener)
    assert not (tmp_path / "run-other" / MANIFEST).exists()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda graph: graph.node[3].ClearField("name"), "became"),
        (lambda graph: graph.node.pop(), "became nothing"),
        (lambda graph: graph.initializer[0].dims.append(1), "weight"),
        (lambda graph: graph.output[0].type.tensor_type.shape.dim.pop(), "output logits"),
    ],
)
def test_another_graph_is_refused_with_the_first_differences(
    fixed_run: Path, tmp_path: Path, edit: Callable[[onnx.GraphProto], None], words: str
) -> None:
    old, new = fixed_run / "model.fp16.onnx", tmp_path / "new.onnx"
    model = onnx.load(old)
    edit(model.graph)
    onnx.save(model, new)
    with pytest.raises(InputError, match="make another graph") as caught:
        require_same_network(old, new)
    assert words in caught.value.problem
    assert "swin-deploy export" in caught.value.hint


def test_integers_are_no_weights(fixed_run: Path, tmp_path: Path) -> None:
    """An order of tokens is an index: another one is another network, other weights are not."""
    model = onnx.load(fixed_run / "model.fp16.onnx")
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            tensor.CopyFrom(onnx.numpy_helper.from_array(array + 1, tensor.name))
    onnx.save(model, tmp_path / "weights.onnx")
    require_same_network(fixed_run / "model.fp16.onnx", tmp_path / "weights.onnx")
    index = next(
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.dims
    )
    array = onnx.numpy_helper.to_array(index)
    index.CopyFrom(onnx.numpy_helper.from_array(array + 1, index.name))
    onnx.save(model, tmp_path / "index.onnx")
    with pytest.raises(InputError, match=f"weight {index.name} INT64"):
        require_same_network(fixed_run / "model.fp16.onnx", tmp_path / "index.onnx")


@pytest.mark.gpu
def test_an_engine_takes_new_weights(
    pocket_run: RunResult, tmp_path: Path, checkpoint: Path, listener: Silent
) -> None:
    """Stripped or not, the gate then runs it against eager with the new weights."""
    for name, options in (
        ("whole", BuildOptions(refittable=True)),
        ("stripped", BuildOptions(strip_weights=True)),
    ):
        request = ExportRequest(
            variant=POCKET, out=tmp_path / name, targets=("rtx",), build=options
        )
        plan = run_export(request, listener).path / "engines" / "rtx-fp16.plan"
        found = find_refittable(plan)
        result = refit_engine(found, refit_request(found, local(checkpoint), None, None), listener)
        compared = {row["candidate"] for row in result.verification["comparisons"]}
        assert "engine rtx-fp16" in compared


def test_an_engine_of_another_runtime_is_not_refitted(pocket_run: RunResult) -> None:
    with pytest.raises(ConfigError, match=r"is no plan of TensorRT.* --target cpu --weights NEW"):
        find_refittable(pocket_run.path / "engines" / "cpu-fp32.onnx")
