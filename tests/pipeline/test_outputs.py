"""The maps of the stages as outputs: the contract of the files, the gate, the bench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from conftest import POCKET, SMALL, Silent
from damage import DAMAGES
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.targets import TARGETS
from swin_deploy.graph import simplify
from swin_deploy.graph.export import read_outputs
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.verify import FLOORS_DB, compare_outputs
from swin_deploy.measure.verify.comparison import EXTREMES
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.export_form.freeze import FORMS, freeze_swin
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model, output_names, with_outputs
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export

Noise = Callable[[Variant, int], np.ndarray]
NAMES = ("stage1", "stage2", "stage3")
SHAPES = {"stage1": (16, 16, 16), "stage2": (32, 8, 8), "stage3": (64, 4, 4)}


def stages_request(out: Path) -> ExportRequest:
    batch = BatchRange(low=1, high=4)
    return ExportRequest(variant=POCKET, out=out, batch=batch, outputs="stages")


@pytest.fixture(scope="module")
def stages_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the pocket network, batch 1 to 4. Tests must not change it."""
    return run_export(stages_request(tmp_path_factory.mktemp("stages run")), Silent())


@pytest.fixture
def run_copy(stages_run: RunResult, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return shutil.copytree(stages_run.path, tmp_path / "run")


@pytest.mark.parametrize("variant", SMALL.values(), ids=SMALL.keys())
def test_maps_are_the_stages_with_channels_first(variant: Variant, noise: Noise) -> None:
    eager = build_model(variant.config)
    images = torch.from_numpy(noise(variant, 2))
    with torch.inference_mode():
        expected = eager.stages(images)
        for network in (eager, freeze_swin(eager, FORMS["slabs"])):
            maps = with_outputs(network, "stages", "x")(images)
            for reference, candidate in zip(expected, maps, strict=True):
                assert candidate.is_contiguous()
                found = sqnr_db(reference.movedim(-1, 1).numpy(), candidate.numpy())
                assert found >= FLOORS_DB["fp32"]


def test_a_network_without_stages_has_no_maps() -> None:
    assert output_names(with_outputs(nn.Linear(1, 1), "logits", "x")) == ("logits",)
    with pytest.raises(ConfigError, match=r"mine has no stages .* --outputs logits"):
        with_outputs(nn.Linear(1, 1), "stages", "mine")


def test_a_request_for_other_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'boxes' is none of logits, stages"):
        replace(stages_request(tmp_path), outputs="boxes")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.raw.onnx", "model.onnx", "model.fp16.onnx"])
def test_every_graph_gives_one_map_per_stage(stages_run: RunResult, name: str) -> None:
    shapes = {stage: ["batch", *shape] for stage, shape in SHAPES.items()}
    assert read_outputs(stages_run.path / name) == shapes
    assert tuple(shapes) == NAMES
    graph = onnx.load(stages_run.path / name).graph
    assert {v.type.tensor_type.elem_type for v in graph.output} == {onnx.TensorProto.FLOAT}
    assert stages_run.stages["export"].details["outputs"] == shapes
    manifest = json.loads((stages_run.path / "manifest.json").read_text())
    assert manifest["outputs"] == "stages"


@pytest.mark.parametrize("name", ["model.raw.onnx", "model.fp16.onnx"])
def test_the_head_is_not_in_the_file(stages_run: RunResult, name: str) -> None:
    graph = onnx.load(stages_run.path / name).graph
    prefixes = ("backbone.head", "backbone.norm", "head", "norm")
    assert not [t.name for t in graph.initializer if t.name.startswith(prefixes)]
    assert not [t.name for t in graph.initializer if POCKET.config.num_classes in t.dims]
    read = {name for node in graph.node for name in node.input}
    assert {t.name for t in graph.initializer} <= read
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 1 + 2 * 6 + 2  # patches, two a block, merges


def test_a_map_takes_one_gather_and_one_transposition(stages_run: RunResult) -> None:
    graph = onnx.load(stages_run.path / "model.onnx").graph
    made_by = {name: node for node in graph.node for name in node.output}
    operators = [node.op_type for node in graph.node]
    assert operators.count("Gather") == 4 + 2  # as for logits, and the stages that were shifted
    for stage in graph.output:
        chain, node = [], made_by[stage.name]
        while node.op_type != "Add":
            chain.append(node.op_type)
            node = made_by[node.input[0]]
        assert [op for op in chain if op != "Reshape"] in (["Transpose", "Gather"], ["Transpose"])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_files_give_the_eager_maps_at_every_batch(
    stages_run: RunResult, count: int, noise: Noise
) -> None:
    images = noise(POCKET, count)
    with torch.inference_mode():
        stages = build_model(POCKET.config).stages(torch.from_numpy(images))
    for name, floor in (("model.onnx", "fp32"), ("model.fp16.onnx", "fp16")):
        with OnnxRuntimeRunner(stages_run.path / name) as runner:
            outputs = runner.run(images)
        assert tuple(outputs) == NAMES
        for stage, expected in zip(NAMES, stages, strict=True):
            assert outputs[stage].dtype == np.float32
            found = sqnr_db(expected.movedim(-1, 1).numpy(), outputs[stage])
            assert found >= FLOORS_DB[floor]  # type: ignore[index]


def test_the_verification_has_a_row_per_output(stages_run: RunResult) -> None:
    verification = json.loads((stages_run.path / "verify.json").read_text())
    assert verification["schema_version"] == 3
    assert all(row["passed"] for row in verification["comparisons"])
    assert all(row["top1_agreement"] is None for row in verification["comparisons"])
    rows: dict[str, list[tuple[str, str]]] = {}
    for row in verification["comparisons"]:
        rows.setdefault(row["candidate"], []).append((row["inputs"], row["output"]))
    candidates = {"export form", "onnx, exported", "onnx, simplified", "onnx, fp16"}
    assert rows.keys() >= candidates | {"engine cpu-fp32"}
    sets = [(f"noise x{count}", name) for count in (1, 2, 3, 4) for name in NAMES]
    for found in rows.values():
        assert found[: len(sets)] == sets
        assert {inputs.rpartition(" x")[0] for inputs, _ in found[len(sets) :]} == set(EXTREMES)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_network_fails_and_leaves_nothing(
    damage: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)
    request = replace(stages_request(tmp_path), precisions=("fp32",), batch=BatchRange())
    with pytest.raises(VerificationError, match="export form") as caught:
        run_export(request, Silent())
    assert caught.value.exit_code == 5
    rows = caught.value.details["verification"]["comparisons"]
    worst = {row["output"]: row["sqnr_db"] for row in rows if row["candidate"] == "export form"}
    assert min(worst.values()) < FLOORS_DB["fp32"] - 40
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_other_outputs_bring_everything_back(
    run_copy: Path, listener: Silent, noise: Noise
) -> None:
    again = run_export(stages_request(run_copy), listener)
    assert set(again.current) == set(again.stages)
    result = run_export(replace(stages_request(run_copy), outputs="logits"), listener)
    assert result.current == ()
    assert result.header["outputs"] == "logits"
    assert read_outputs(run_copy / "model.onnx") == {"logits": ["batch", 7]}


def misplace_stage1(source: Path, final: Path) -> None:
    """Change what one output alone depends on: the gather that brings it into image order."""
    model = onnx.load(source)
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by["stage1"]
    while node.op_type != "Gather":
        node = made_by[node.input[0]]
    for tensor in model.graph.initializer:
        if tensor.name == node.input[1]:
            value = numpy_helper.to_array(tensor)[::-1].copy()
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, final)


def test_a_simplifier_that_spoils_one_output_is_seen(
    stages_run: RunResult, tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplify, "run_simplifier", misplace_stage1)
    source, final = stages_run.path / "model.raw.onnx", tmp_path / "model.onnx"
    result = simplify_graph(source, final, noise(POCKET, 2), tmp_path / "log")
    assert "onnxsim changed stage1: SQNR" in result.failure
    assert final.read_bytes() == source.read_bytes()


def test_a_bench_compares_and_times_the_maps(run_copy: Path, tmp_path: Path) -> None:
    report = bench_engine(BenchRequest(engine=run_copy, batches=(2,), rounds=2), print)
    assert report["outputs"] == "stages"
    assert [row["name"] for row in report["measurements"]] == [
        "eager PyTorch fp32 (cpu)",
        "engine cpu-fp32",
    ]
    assert [(row["output"], row["passed"]) for row in report["checks"]] == [
        (name, True) for name in NAMES
    ]
    foreign = tmp_path / "elsewhere" / "x.onnx"
    foreign.parent.mkdir()
    shutil.copy(run_copy / "model.onnx", foreign)
    report = bench_engine(BenchRequest(engine=foreign, rounds=2, variant=POCKET), print)
    assert report["outputs"] == "stages"


@pytest.mark.gpu
def test_a_plan_gives_the_maps(stages_run: RunResult, noise: Noise) -> None:
    target = TARGETS["rtx"]
    path = stages_run.path / target.engine_name("fp16")
    with (
        OnnxRuntimeRunner(stages_run.path / "model.onnx") as graph,
        open_engine(target, "fp16", path) as plan,
    ):
        for count in (1, 3, 4):
            expected, outputs = (runner.run(noise(POCKET, count)) for runner in (graph, plan))
            assert all(compare_outputs("plan", "noise", expected, outputs, "fp16"))


def test_the_command_line_names_the_outputs(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    arguments = ["export", "--config", config, "--out", out, "--target", "cpu"]
    assert cli.run([*arguments, "--outputs", "stages"]) == 0
    text = capsys.readouterr().out
    assert "outputs: stage1 (1, 16, 8, 8)\n" in text
    assert cli.run(arguments) == 0
    assert "outputs: logits (1, 1000)\n" in capsys.readouterr().out
