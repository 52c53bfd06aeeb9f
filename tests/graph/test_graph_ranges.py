"""Values that FP16 cannot hold are found, and their nodes stay in FP32; no others do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.torch import save_file

from conftest import POCKET, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.graph import half as ranges
from swin_deploy.graph.half import find_large, match_nodes, measure_peaks
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.model.build import build_model
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.report.deployment import describe_stage

# An MLP whose hidden layer is beyond FP16, behind an LayerNormalization that brings it back.
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2] image) => (float[b, 2] logits)
<float[b, 2] t, float[b, 2] u, float[b, 2] n, float[b, 1] r, float[b, 1] d, float[b, 1] f,
 float[2, 2] w = {100, 0, 0, 300}, float[2] s = {1, 1}, float[2] o = {0, 0}, int64[1] axes = {1},
 float low = {1e-12}, float one = {1}> {
    [small] t = MatMul(image, w)
    [large] u = MatMul(t, w)
    [norm] n = LayerNormalization<axis = -1>(u, s, o)
    [length] r = ReduceL2(n, axes)
    [clip] d = Clip(r, low)
    [factor] f = Div(one, d)
    [last] logits = Mul(n, f)
}"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    ir.save(ir.from_onnx_text(GRAPH), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_peaks_are_over_all_images_and_nodes_that_read_one_count(graph: Path) -> None:
    images = [np.array([[1, 0.1]], np.float32), np.array([[0, -1], [0.5, 0]], np.float32)]
    peaks = measure_peaks(graph, images)
    assert peaks == pytest.approx({"t": 300, "u": 90000, "n": 1, "logits": 0.7071}, rel=1e-3)
    assert find_large(graph, images) == pytest.approx({"large": 90000, "norm": 90000})
    assert find_large(graph, images[:1]) == {}
    assert list(find_large(graph, [np.array([[np.nan, 0]], np.float32)])) == [
        *("small", "large", "norm", "last")
    ]


def test_names_and_patterns_are_looked_up(graph: Path) -> None:
    assert match_nodes(graph, ("norm", "l*e")) == ("large", "norm")
    assert match_nodes(graph, ()) == ()
    with pytest.raises(ConfigError, match=r"no node of g.onnx is called 'nrm'.*--fp32-nodes norm"):
        match_nodes(graph, ("large", "nrm"))
    with pytest.raises(ConfigError, match=r"'zz\*'"):
        match_nodes(graph, ("zz*",))


def overflowing(out: Path, **changes: object) -> ExportRequest:
    """A network whose second stage has one hidden layer that FP16 cannot hold."""
    rules = replace(POCKET.config.semantics, small_grids="shrink_both", stop_shift="both")
    variant = replace(POCKET, config=replace(POCKET.config, semantics=rules))
    tensors = dict(build_model(variant.config).named_parameters())
    factor = 40_000 / float(tensors[f"{MLP}.fc1.weight"].abs().max())
    for name, scale in (("fc1.weight", factor), ("fc1.bias", factor), ("fc2.weight", 1 / factor)):
        tensors[f"{MLP}.{name}"].data *= scale
    save_file(tensors, out.parent / "large.safetensors")
    request = ExportRequest(
        variant=variant,
        weights=out.parent / "large.safetensors",
        load=LoadOptions(wanted=variant.config, image_size=variant.config.image_size),
        out=out,
        targets=("rtx",),
    )
    return replace(request, **changes)  # type: ignore[arg-type]


MLP = "layers.1.blocks.0.mlp"
HIDDEN = [f"{MLP}{name}" for name in (".fc1/MatMul", ".fc1/Add", "/Gelu", ".fc2/MatMul")]


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_export(overflowing(tmp_path_factory.mktemp("large") / "run"), Silent())


def test_the_nodes_of_the_hidden_layer_stay_in_fp32_and_no_others(large_run: RunResult) -> None:
    record = large_run.stages["fp16"]
    assert list(record.details["fp32_nodes"]) == HIDDEN
    assert min(record.details["fp32_nodes"].values()) > 65504
    assert describe_stage("fp16", large_run.stages).endswith("4 nodes in FP32")
    assert any("fc1/MatMul" in note and "stay in FP32" in note for note in large_run.notes)
    assert large_run.verification["passed"]
    assert large_run.stages["engine:rtx-fp16"].details["fused_attentions"] == 6


def test_without_the_probe_the_graph_overflows_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "find_large", lambda source, images: {})
    with pytest.raises(VerificationError, match=r"onnx, fp16 disagrees .* NaN or infinite"):
        run_export(overflowing(tmp_path / "run"), Silent())


def test_bf16_needs_none(tmp_path: Path) -> None:
    result = run_export(overflowing(tmp_path / "run", precisions=("bf16",)), Silent())
    assert result.stages["bf16"].details["fp32_nodes"] == {}
    assert result.verification["passed"]


def test_an_ordinary_network_has_none(pocket_run: RunResult) -> None:
    assert pocket_run.stages["fp16"].details["fp32_nodes"] == {}


def test_nodes_named_by_hand_stay_in_fp32(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["export", "--config", config, "--out", str(out), "--target", "rtx", "--json"]
    assert cli.run([*command, "--fp32-nodes", "layers.0.blocks.1.mlp*,head*"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = result["stages"]["fp16"]["details"]["fp32_nodes"]
    assert {name.partition(".mlp")[0] for name in names} > {"layers.0.blocks.1"}
    assert set(names.values()) == {None}
    types = {
        v.dtype
        for n in ir.load(out / "model.fp16.onnx").graph
        if n.name in names
        for v in n.outputs
    }
    assert types == {ir.DataType.FLOAT}

    assert cli.run([*command, "--fp32-nodes", "layers.0.blocks.1.mlp*"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "fp16" not in result["current"]
    assert "simplify" in result["current"]
    assert cli.run([*command, "--fp32-nodes", "layers.0.blocks.1.mlp.fc1/MatMil"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert "layers.0.blocks.1.mlp.fc1/MatMul" in json.dumps(error)
    assert cli.run([*command, "--precision", "fp32", "--fp32-nodes", "x"]) == 2
