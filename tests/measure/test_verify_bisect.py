"""``verify --bisect``: a damage is found in its block, down to the tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import BARE, COSINE, MIXED, PADDED, POCKET, POCKET_VIT
from swin_deploy.cli import main as cli
from swin_deploy.graph.export import export_graph
from swin_deploy.measure.verify.bisect import Bisection, bisect
from swin_deploy.measure.verify.candidates import find_candidate, list_candidates
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run
from swin_deploy.network.catalogue import Variant, family_of
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import AS_EXPORTED, BatchRange, Outputs
from swin_deploy.network.model.build import build_model, load_model, output_names, with_outputs
from swin_deploy.report.plots import plot_depth
from swin_deploy.run.finished import Run
from swin_deploy.run.manifest import Header, Manifest, StageRecord, Weights

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_verify_command")


STAGES = range(3)
Change = Callable[[np.ndarray], np.ndarray]


def damage(source: Path, final: Path, tensor: str, change: Change) -> str:
    """Write a graph with one constant changed; returns its path, as ``--between`` takes it."""
    model = onnx.load(source)
    (found,) = [t for t in model.graph.initializer if t.name == tensor]
    values = numpy_helper.to_array(found)
    changed = change(values.copy()).astype(values.dtype)
    assert not np.array_equal(changed, values, equal_nan=True)
    found.CopyFrom(numpy_helper.from_array(changed, tensor))
    onnx.save(model, final)
    return str(final)


def one_more(index: tuple[int, ...]) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        values[index] += 0.25
        return values

    return change


def other_windows(values: np.ndarray) -> np.ndarray:
    """The masks of the windows are handed to the wrong windows."""
    return values[::-1]


def look(run: Run, a: str, b: str, scratch: Path) -> Bisection:
    sides = list_candidates(run)
    pair = find_candidate(run, sides, a), find_candidate(run, sides, b)
    generator = np.random.default_rng(0)
    shape = (1, run.config.in_channels, *run.config.image_size)
    image = generator.standard_normal(shape, dtype=np.float32)
    model = load_model(run.config, run.weights, run.seed)
    return bisect(run, model, pair, [("noise", image)], scratch, 100.0)


# What is damaged in a block -> its constant, how, the tensor of eager and the node that show it.
DAMAGES: dict[str, tuple[str, Change, str, str]] = {
    "one weight": ("mlp.fc1.weight", one_more((3, 5)), "fc1", "mlp.fc1/MatMul"),
    "a weight of the attention": ("attn.qkv.weight", one_more((3, 5)), "attn", "attn.qkv/MatMul"),
    "a mask": ("attn.bias", other_windows, "attn", "attn/Add"),
    "a bias": ("mlp.fc2.bias", one_more((2,)), "fc2", "mlp.fc2/Add"),
}


@pytest.mark.fault(22)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", DAMAGES)
def test_bisect_names_the_block_and_the_tensor(
    masked_run: Run, tmp_path: Path, what: str, stage: int
) -> None:
    constant, change, part, node = DAMAGES[what]
    block = f"layers.{stage}.blocks.1"
    source = masked_run.path / "model.onnx"
    damaged = damage(source, tmp_path / "damaged.onnx", f"{block}.{constant}", change)
    with_eager = look(masked_run, "eager", damaged, tmp_path)
    assert with_eager.block is not None
    assert with_eager.block.output == block
    assert with_eager.first is not None
    assert with_eager.first.output == f"{block}, {part}"
    assert with_eager.first.stage == f"stage {stage + 1}"
    with_graph = look(masked_run, "onnx", damaged, tmp_path)
    assert with_graph.block is not None
    assert with_graph.block.output == block
    assert with_graph.first is not None
    assert with_graph.first.output == f"{block}.{node}"


@pytest.mark.parametrize("stage", STAGES[1:])
def test_bisect_names_a_merge(masked_run: Run, tmp_path: Path, stage: int) -> None:
    name = f"layers.{stage}.enter"
    source = masked_run.path / "model.onnx"
    weight = f"{name}.reduction.weight"
    damaged = damage(source, tmp_path / "damaged.onnx", weight, one_more((3, 5)))
    found = look(masked_run, "eager", damaged, tmp_path)
    assert found.first is not None
    assert found.first.output == name


def trace(variant: Variant, form: FormName, outputs: Outputs, batch: int, out: Path) -> Run:
    """A folder with a graph alone, as a run that has just been exported."""
    model = build_model(variant.config)
    network = with_outputs(freeze(model, form), outputs, variant.name)
    sizes = BatchRange(low=batch, high=batch)
    export_graph(network, variant.config, sizes, out / "model.onnx", output_names(network))
    header = Header(
        family=family_of(variant.config),
        variant=variant.config,
        preprocessing=variant.preprocessing,
        parameters=0,
        weights=Weights(source="random", seed=0),
        batch=sizes,
        outputs=outputs,
        interface=AS_EXPORTED,
        photos=None,
        never_run={},
        notes=(),
    )
    drawn = {"sizes": [1], "seed": None}
    nothing = {
        "batches": drawn,
        "comparisons": 0,
        "converted_exactly": [],
        "not_run": {},
        "fp32_floors_db": {},
        "fp32_extreme_floors_db": {},
    }
    gate = StageRecord(key="", outputs={}, details=nothing)
    return Run(out, Manifest(header=header, stages={"verify": gate}), {})


@pytest.mark.parametrize(
    ("variant", "form", "outputs", "constant", "expected"),
    [
        (POCKET, "slabs", "logits", "layers.1.blocks.1.attn.proj.bias", "layers.1.blocks.1, attn"),
        (COSINE, "packed", "logits", "layers.1.blocks.1.norm2.bias", "layers.1.blocks.1, norm2"),
        (
            COSINE,
            "packed",
            "stages",
            "backbone.layers.2.blocks.1.norm2.bias",
            "layers.2.blocks.1, norm2",
        ),
        (
            PADDED["padded-before-v2"],
            "packed",
            "logits",
            "layers.0.enter.norm.bias",
            "layers.0.enter",
        ),
        (
            PADDED["padded-after-v1"],
            "slabs",
            "logits",
            "layers.2.enter.norm.bias",
            "layers.2.enter",
        ),
        (POCKET_VIT, "packed", "logits", "blocks.3.mlp.fc1.bias", "blocks.3, fc1"),
        (BARE, "slabs", "logits", "fc_norm.bias", "fc_norm"),
        (MIXED, "packed", "logits", "layers.1.enter.reduction.bias", "layers.1.enter"),
    ],
    ids=["slabs", "V2", "V2 maps", "V2 padded", "V1 padded", "ViT", "bare", "mixed"],
)
def test_every_kind_of_network_can_be_looked_into(
    tmp_path: Path, variant: Variant, form: FormName, outputs: Outputs, constant: str, expected: str
) -> None:
    """Tokens of eager are brought into the order of the graph, so that a right graph agrees."""
    run, graph = trace(variant, form, outputs, 2, tmp_path), tmp_path / "model.onnx"
    whole = look(run, "eager", str(graph), tmp_path)
    assert [row.reason for row in whole.rows if row.reason] == []
    assert whole.unmatched == []
    depths = getattr(variant.config, "depths", None) or (variant.config.depth,)
    head = 2 if outputs == "logits" else 0
    assert len(whole.rows) == len(depths) + sum(depths) + head  # with the embedding and the merges
    damaged = damage(graph, tmp_path / "damaged.onnx", constant, one_more((2,)))
    found = look(run, "eager", damaged, tmp_path)
    assert found.first is not None
    assert found.first.output == expected


def test_the_whole_command_names_a_damage(
    masked_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, report = masked_run.path, tmp_path / "report.json"
    graph = damage(
        run / "model.onnx",
        tmp_path / "damaged.onnx",
        "layers.1.blocks.0.mlp.fc1.weight",
        one_more((0, 0)),
    )
    plot = tmp_path / "depth.svg"
    command = ["verify", str(run), "--between", f"eager,{graph}", "--bisect", "--plot", str(plot)]
    assert cli.run([*command, "--out", str(report)]) == 5
    out = capsys.readouterr()
    assert "first tensor that leaves its floor: layers.1.blocks.0, fc1 (stage 2" in out.out
    assert "layers.1.blocks.0, fc1" in out.err
    written = json.loads(report.read_text())
    assert not written["passed"]
    assert written["bisections"][0]["block"] == "layers.1.blocks.0"
    assert {row["inputs"] for row in written["checks"] if not row["passed"]} >= {"black x1"}
    assert all(row["reason"] for row in written["checks"])
    assert "first below its floor: layers.1.blocks.0, fc1" in plot.read_text()
    assert cli.run([*command, "--out", str(report), "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "E_VERIFY"
    assert error["report"]["bisections"][0]["first"]["tensor"] == "layers.1.blocks.0, fc1"


def test_nan_inside_is_found(masked_run: Run, tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[0] = np.nan
        return values

    graph = damage(
        masked_run.path / "model.onnx", tmp_path / "nan.onnx", "layers.2.blocks.0.norm2.bias", spoil
    )
    request = VerifyRequest(
        run=masked_run.path, between=(("onnx", graph),), bisect=True, out=tmp_path / "x.json"
    )
    report = check_run(request, print)
    assert not report["passed"]
    found = report["bisections"][0]
    assert found["first"]["tensor"] == "layers.2.blocks.0.norm2/LayerNormalization"
    assert "NaN" in found["first"]["reason"]
    json.dumps(report, allow_nan=False)
    plot_depth(report, tmp_path / "nan.png")
