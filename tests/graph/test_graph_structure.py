"""The exact comparison of a half-precision graph with the FP32 one: what it must not let pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import COSINE, Silent
from damage import DAMAGES as DAMAGES_OF_FORM
from swin_deploy.core.errors import EnvironmentMissingError, VerificationError
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.structure import require_converted
from swin_deploy.measure.bench.subject import open_subject
from swin_deploy.network.interface import HALF_PRECISIONS, HalfPrecision
from swin_deploy.pipeline import stages
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export


@pytest.fixture(scope="module")
def cosine_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A network with nodes of every kind: FP32 ones, and in FP16 results that are cut off."""
    request = ExportRequest(
        variant=COSINE,
        out=tmp_path_factory.mktemp("cosine"),
        precisions=("fp32", "fp16", "bf16"),
        targets=("rtx",),
    )
    return run_export(request, Silent())


def change_weight(model: onnx.ModelProto) -> None:
    """The last bit of one weight."""
    (tensor,) = (
        t for t in model.graph.initializer if t.name.endswith("layers.0.blocks.0.mlp.fc1.weight")
    )
    value = numpy_helper.to_array(tensor).copy()
    value.view(np.uint16).reshape(-1)[7] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def change_attribute(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "LayerNormalization")
    (epsilon,) = (a for a in node.attribute if a.name == "epsilon")
    epsilon.f *= 1.01


def swap_inputs(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Add")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def leave_node_out(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Gelu")
    for other in model.graph.node:
        other.input[:] = [node.input[0] if i == node.output[0] else i for i in other.input]
    model.graph.node.remove(node)


def change_operator(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Add").op_type = "Sub"


def cut_off(model: onnx.ModelProto) -> None:
    """Something between -1 and 1."""
    node = next(n for n in model.graph.node if n.op_type == "Gelu")
    half = next(t for t in model.graph.initializer if t.name.endswith("fc1.weight")).data_type
    for name, number in (("low", -1), ("high", 1)):
        limit = onnx.helper.make_tensor(name, half, [], [number])
        model.graph.initializer.append(limit)
    clip = onnx.helper.make_node(
        "Clip", [node.input[0], "low", "high"], ["cut"], name="x.range/Clip"
    )
    model.graph.node.insert(list(model.graph.node).index(node), clip)
    node.input[0] = "cut"


DAMAGES = {
    change_weight: "is not the rounded weight",
    change_attribute: "has another attributes",
    swap_inputs: "has another inputs",
    leave_node_out: "nodes besides casts",
    change_operator: "has another operator",
    cut_off: "nodes besides casts",
}


@pytest.mark.parametrize("precision", HALF_PRECISIONS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_no_damage_passes(
    damage: Callable[[onnx.ModelProto], None],
    precision: HalfPrecision,
    cosine_run: RunResult,
    tmp_path: Path,
) -> None:
    full, half = cosine_run.path / "model.onnx", cosine_run.path / f"model.{precision}.onnx"
    require_converted(full, half, precision)
    model = onnx.load(half)
    damage(model)
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(VerificationError, match=DAMAGES[damage]):
        require_converted(full, tmp_path / "damaged.onnx", precision)


def test_nodes_in_fp32_are_no_damage(cosine_run: RunResult, tmp_path: Path) -> None:
    full, half = cosine_run.path / "model.onnx", tmp_path / "half.onnx"
    names = [n.name for n in onnx.load(full).graph.node if "blocks.0.mlp" in n.name]
    convert_to_half(full, half, "fp16", names)
    require_converted(full, half, "fp16")


def test_a_run_says_what_was_compared_exactly(cosine_run: RunResult) -> None:
    assert cosine_run.stages["verify"].details["converted_exactly"] == ["fp16", "bf16"]
    rows = [r for r in cosine_run.verification["comparisons"] if r["candidate"] == "onnx, bf16"]
    assert rows
    assert all(row["passed"] and row["floor_db"] == 9 for row in rows)
    assert "engine rtx-bf16" in cosine_run.verification["not_run"] or any(
        r["candidate"] == "engine rtx-bf16" for r in cosine_run.verification["comparisons"]
    )
    assert cosine_run.stages["engine:rtx-bf16"].details["fused_attentions"] == 6


def test_a_runtime_without_bf16_is_not_asked_to_time_it(cosine_run: RunResult) -> None:
    with pytest.raises(EnvironmentMissingError, match="no BF16 kernels"):
        open_subject(cosine_run.path / "model.bf16.onnx", None, None)


def test_what_is_below_the_floor_of_bf16_fails_the_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight in a hundred thousand, in its last bit: no floor sees that."""
    plan = stages.plan_stages

    def damaged(*arguments: object) -> list[stages.Stage]:
        planned = plan(*arguments)  # type: ignore[arg-type]
        (stage,) = (s for s in planned if s.name == "bf16")
        convert = stage.action

        def action(context: object) -> dict[str, object]:
            details = convert(context)  # type: ignore[arg-type]
            path = context.folder.scratch("model.bf16.onnx")  # type: ignore[attr-defined]
            model = onnx.load(path)
            change_weight(model)
            onnx.save(model, path)
            return details

        planned[planned.index(stage)] = replace(stage, action=action)
        return planned

    monkeypatch.setattr("swin_deploy.pipeline.run.plan_stages", damaged)
    request = ExportRequest(variant=COSINE, out=tmp_path, precisions=("bf16",), targets=("rtx",))
    with pytest.raises(VerificationError, match="not the rounded weight"):
        run_export(request, Silent())
    assert not (tmp_path / "manifest.json").exists()


def test_a_damaged_network_is_found_before_the_floor_of_bf16_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its FP32 form is held to 110 dB, whatever precision was asked for."""
    DAMAGES_OF_FORM["wrong_shift"](monkeypatch)
    request = ExportRequest(variant=COSINE, out=tmp_path, precisions=("bf16",), targets=("rtx",))
    with pytest.raises(VerificationError, match="export form"):
        run_export(request, Silent())
