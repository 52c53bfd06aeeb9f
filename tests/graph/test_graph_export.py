"""The ONNX file: contract of names and shapes, no trace of the machine, readable node names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from conftest import POCKET, ROOT
from swin_deploy.core.errors import InputError
from swin_deploy.core.files import sha256
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.export import (
    OPSET,
    NameNodesByModule,
    check_graph,
    export_graph,
    rewrite,
)
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.export_form.freeze import FORMS, freeze_swin
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model
from swin_deploy.pipeline.run import RunResult

FORBIDDEN = {"If", "Loop", "Where", "ScatterND", "GatherND", "Concat", "Pad", "Shape", "Mod"}


@pytest.fixture(scope="module")
def static_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("static") / "model.raw.onnx"
    frozen = freeze_swin(build_model(POCKET.config), FORMS["packed"])
    export_graph(frozen, POCKET.config, BatchRange(low=2, high=2), path)
    return path


def test_input_and_output_are_the_contract(static_graph: Path) -> None:
    graph = onnx.load(static_graph).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"image": [2, 3, 64, 64], "logits": [2, 7]}


@pytest.mark.fault(20)
def test_a_dynamic_batch_is_the_only_dynamic_axis(pocket_run: RunResult) -> None:
    image = onnx.load(pocket_run.path / "model.onnx").graph.input[0]
    dims = image.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [d.dim_value for d in dims[1:]] == [3, 64, 64]


def test_nothing_is_rolled_masked_or_looked_up_at_run_time(static_graph: Path) -> None:
    graph = onnx.load(static_graph).graph
    operators = {node.op_type for node in graph.node}
    assert not operators & FORBIDDEN
    constants = {tensor.name for tensor in graph.initializer}
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    assert len(gathers) == 4  # into each shifted block, and two merges
    assert all(node.input[1] in constants for node in gathers)
    assert not any(node.input[0] in constants for node in gathers)  # no table is read


def test_nodes_and_weights_are_named_after_their_modules(static_graph: Path) -> None:
    graph = onnx.load(static_graph).graph
    nodes = [node.name for node in graph.node]
    weights = {tensor.name for tensor in graph.initializer}
    assert len(set(nodes)) == len(nodes)
    assert "layers.0.blocks.1.attn.qkv/MatMul" in nodes
    expected = {"layers.0.blocks.1.attn.qkv.weight", "layers.0.blocks.1.attn.bias", "head.weight"}
    assert expected <= weights


def test_weights_are_embedded_and_metadata_is_gone(static_graph: Path) -> None:
    model = onnx.load(static_graph, load_external_data=False)
    assert [path.name for path in static_graph.parent.iterdir()] == [static_graph.name]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert model.opset_import[0].version == OPSET


@pytest.mark.slow
def test_two_checkouts_give_the_same_bytes(tmp_path: Path, static_graph: Path) -> None:
    """Another folder, another process, another hash seed: nothing of them is in the file."""
    checkout = tmp_path / "another place"
    shutil.copytree(ROOT / "swin_deploy", checkout / "swin_deploy")
    shutil.copytree(ROOT / "tests", checkout / "tests")
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    shutil.copytree(ROOT / "examples", checkout / "examples")
    code = (
        "import sys; sys.path[:0] = ['.', 'scripts', 'tests', 'tests/support']\n"
        "import swin_deploy; assert 'another place' in swin_deploy.__file__\n"
        "from pathlib import Path\n"
        "from conftest import POCKET\n"
        "from swin_deploy.network.interface import BatchRange\n"
        "from swin_deploy.network.export_form.freeze import FORMS\n"
        "from swin_deploy.network.export_form.freeze import freeze_swin\n"
        "from swin_deploy.graph.export import export_graph\n"
        "from swin_deploy.network.model.build import build_model\n"
        "frozen = freeze_swin(build_model(POCKET.config), FORMS['packed'])\n"
        "export_graph(frozen, POCKET.config, BatchRange(low=2, high=2), Path('model.raw.onnx'))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, timeout=300)
    written = (checkout / "model.raw.onnx").read_bytes()
    assert sha256(checkout / "model.raw.onnx") == sha256(static_graph)
    assert str(tmp_path).encode() not in written
    assert str(ROOT).encode() not in written


@pytest.mark.fault(20)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_dynamic_graph_is_right_at_every_batch(
    pocket_run: RunResult, count: int, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    images = noise(POCKET, count)
    images[:] = images[:1]  # the same image in every slot
    expected = TorchRunner(build_model(POCKET.config)).run(images)
    with OnnxRuntimeRunner(pocket_run.path / "model.onnx") as runner:
        outputs = runner.run(images)["logits"]
    assert sqnr_db(expected["logits"], outputs) >= FLOORS_DB["fp32"]
    assert np.ptp(outputs, axis=0).max() < 1e-5


def test_a_static_graph_takes_any_number_of_images_in_calls(
    static_graph: Path, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    images = noise(POCKET, 5)
    expected = TorchRunner(build_model(POCKET.config)).run(images)["logits"]
    with OnnxRuntimeRunner(static_graph) as runner:
        assert sqnr_db(expected, run_all(runner, images)["logits"]) >= FLOORS_DB["fp32"]


@pytest.mark.fault(14)
@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"<html>", bytes(range(200))])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="ONNX model"):
        check_graph(path)


NAMED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[2, 3] x) => (float[2, 2] y)
<float[3, 2] val_3 = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}> {
    t = MatMul(x, val_3)
    y = Add(t, b)
}"""
SCOPES = "pkg.torch.onnx.name_scopes"


def another_operator(model: ir.Model) -> None:
    model.graph.node(0).op_type = "NoOperator"


def another_shape(model: ir.Model) -> None:
    model.graph.outputs[0].shape = ir.Shape((3, 2))


def another_type(model: ir.Model) -> None:
    model.graph.inputs[0].dtype = ir.DataType.FLOAT16


@pytest.mark.parametrize("damage", [another_operator, another_shape, another_type])
def test_what_a_rewrite_breaks_replaces_nothing(
    tmp_path: Path, damage: Callable[[ir.Model], None]
) -> None:
    source, final = tmp_path / "source.onnx", tmp_path / "final.onnx"
    ir.save(ir.from_onnx_text(NAMED), source)
    final.write_bytes(b"as it was")
    with pytest.raises(InputError), rewrite(source, final) as model:
        damage(model)
    assert final.read_bytes() == b"as it was"
    with rewrite(source, final) as model:
        model.graph.name = "renamed"
    assert onnx.load(final).graph.name == "renamed"
    assert {path.name for path in tmp_path.iterdir()} == {"source.onnx", "final.onnx"}


def test_a_pass_that_fails_replaces_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    ir.save(ir.from_onnx_text(NAMED), source)
    before = source.read_bytes()

    def half_way() -> None:
        with rewrite(source, source) as model:
            model.graph.name = "half way"
            raise RuntimeError("a pass fails")

    with pytest.raises(RuntimeError, match="a pass"):
        half_way()
    assert source.read_bytes() == before


def test_naming_renames_nodes_and_weights_and_nothing_else() -> None:
    model = ir.from_onnx_text(NAMED)
    for node in model.graph:
        node.metadata_props[SCOPES] = "['', 'head', 'head.fc', 'linear']"
    assert NameNodesByModule()(model).modified
    assert [node.name for node in model.graph] == ["head.fc/MatMul", "head.fc/Add"]
    assert set(model.graph.initializers) == {"head.fc.weight", "b"}
    assert model.graph.outputs[0].name == "y"


def test_naming_leaves_nodes_without_a_scope_alone() -> None:
    model = ir.from_onnx_text(NAMED)
    before = [node.name for node in model.graph]
    assert not NameNodesByModule()(model).modified
    assert [node.name for node in model.graph] == before


def test_naming_does_not_take_a_name_that_is_in_use() -> None:
    model = ir.from_onnx_text(NAMED)
    model.graph.initializers["b"].name = "fc.weight"
    for node in model.graph:
        node.metadata_props[SCOPES] = "['', 'fc', 'linear']"
    NameNodesByModule()(model)
    assert set(model.graph.initializers) == {"val_3", "fc.weight"}
