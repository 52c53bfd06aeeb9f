"""Targets, builds with the real compiler, and the reading of its listing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import POCKET
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    InputError,
)
from swin_deploy.engine import build
from swin_deploy.engine import open as engine_open
from swin_deploy.engine import tensorrt as tensorrt_build
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.cost.listing import Listing, load_listing, read_listing
from swin_deploy.engine.open import open_engine, why_not_here
from swin_deploy.engine.options import Written
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.targets import TARGETS, find_target
from swin_deploy.engine.tensorrt import Compiled
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.pipeline.run import RunResult

GEMM = (
    "Name: __myl_FcAdd_myl0_6, LayerType: runtime_fusion, Inputs: [ { Name: x, Dimensions: "
    "[50176,96], Strides: [96,1], StrideOrder: [1,0], Datatype: Half, Format: (Linear) Row major "
    "linear format }], Constants: [ { Name: b, Dimensions: [1,288], Strides: [288,1], "
    "StrideOrder: [1,0], Datatype: Half, Format: (Linear) Row major linear format }], Outputs: "
    "[ { Name: y, Dimensions: [50176,288], Strides: [288,1], StrideOrder: [1,0], Datatype: Float, "
    "Format: (Linear) Row major linear format }], TacticName: , StreamId: 0, Metadata: "
    "[ONNX Layer: layers.0.blocks.0.qkv/MatMul][ONNX Layer: layers.0.blocks.0.qkv/Add]"
)
SHAPES = (
    "Name: __mye50223_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], "
    "TacticName: , StreamId: 0, Metadata: "
)
WAIT = "Name: wait_1, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: wait"


def test_a_kernel_is_read_with_its_bytes_and_nodes() -> None:
    listing = read_listing(["chatter", f"Engine Layer Information:\n{SHAPES}\n{GEMM}\n{WAIT}"])
    (kernel,) = listing.kernels
    assert kernel.kind == "runtime_fusion"
    assert kernel.activation_bytes == 50176 * (96 * 2 + 288 * 4)
    assert kernel.constant_bytes == 288 * 2
    assert kernel.onnx_nodes == ("layers.0.blocks.0.qkv/MatMul", "layers.0.blocks.0.qkv/Add")
    assert listing.fused_attentions == 0
    assert listing.activation_bytes == kernel.activation_bytes


def test_fused_attention_and_dynamic_sizes_are_seen() -> None:
    line = GEMM.replace("__myl_FcAdd_myl0_6", "_gemm_mha_v2_myl0_8").replace("50176", "-1")
    listing = read_listing([line])
    assert listing.fused_attentions == 1
    assert listing.activation_bytes is None


def test_an_engine_whose_kernels_cannot_be_read_is_built_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake_child(*args: object) -> Compiled:
        final = args[6]
        assert isinstance(final, Path)
        final.write_bytes(b"a plan")
        listing = Listing((), "another layout")
        made = Written(graph="", files={})
        return Compiled(listing=listing, version="12.0", settings={}, notes=(), written=made)

    monkeypatch.setattr(build, "run_reporting", fake_child)
    built = build_engine(
        *(TARGETS["rtx"], tmp_path / "x.onnx", tmp_path / "x.plan", BatchRange(), tmp_path / "log"),
        tmp_path / "x.kernels.json",
    )
    assert built.kernels is None
    assert built.notes == ("engine x.plan is fine, its kernels are not known: another layout",)
    assert load_listing(tmp_path / "x.kernels.json").problem == "another layout"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GEMM.replace("Datatype: Float", "Datatype: Posit"), "unknown datatype Posit"),
        (GEMM.replace("Constants:", "Weights:"), "cannot read the compiler's line"),
    ],
)
def test_a_listing_of_another_kind_is_an_error_and_not_a_zero(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_listing([line])


def test_targets_are_found_by_name_only() -> None:
    assert find_target("rtx").module == "tensorrt_rtx"
    with pytest.raises(ConfigError, match="unknown target 'tensort'") as caught:
        find_target("tensort")
    assert "tensorrt" in caught.value.hint


@pytest.mark.fault(34)
def test_a_missing_library_is_named_with_its_install_command(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissingError, match="tensorrt, which is not installed") as caught:
        build_engine(
            TARGETS["tensorrt"], tmp_path / "x.onnx", tmp_path / "x.plan", BatchRange(), tmp_path
        )
    assert "pip install" in caught.value.hint


def test_the_compiler_lists_the_kernels_of_a_plan(pocket_run: RunResult) -> None:
    """Of so small a network it does not fuse every attention; of the full-size ones it does."""
    engine = pocket_run.stages["engine:rtx-fp16"].details
    assert 0 < engine["fused_attentions"] <= sum(POCKET.config.depths)
    assert engine["kernels"] > 5 * sum(POCKET.config.depths)
    assert (pocket_run.path / "engines" / "rtx-fp16.plan").stat().st_size > 100_000


@pytest.mark.fault(15)
def test_the_compiler_refuses_what_is_no_graph(tmp_path: Path) -> None:
    source, final = tmp_path / "x.onnx", tmp_path / "x.plan"
    source.write_bytes(b"not a graph")
    final.write_bytes(b"an earlier engine")
    with pytest.raises(InputError, match="tensorrt_rtx cannot parse"):
        build_engine(TARGETS["rtx"], source, final, BatchRange(), tmp_path / "log")
    assert final.read_bytes() == b"an earlier engine"


@pytest.mark.fault(15)
def test_the_compiler_names_the_node_that_it_cannot_parse(
    pocket_run: RunResult, tmp_path: Path
) -> None:
    model = onnx.load(pocket_run.path / "model.fp16.onnx")
    node = next(n for n in model.graph.node if n.op_type == "Softmax")
    node.op_type, node.domain = "Softmux", "nobody.knows"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(InputError, match="Softmux"):
        build_engine(
            TARGETS["rtx"], tmp_path / "x.onnx", tmp_path / "p", BatchRange(), tmp_path / "log"
        )


def test_the_onnxruntime_engine_is_its_own_fused_graph(
    pocket_run: RunResult, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    engine = pocket_run.path / "engines" / "cpu-fp32.onnx"
    domains = {node.domain for node in onnx.load(engine).graph.node}
    assert "com.microsoft" in domains  # its own operators: the fusions are in the file
    images = noise(POCKET, 3)
    with OnnxRuntimeRunner(pocket_run.path / "model.onnx") as graph:
        expected = graph.run(images)["logits"]
    with open_engine(TARGETS["cpu"], "fp32", engine, threads=1) as runner:
        assert sqnr_db(expected, runner.run(images)["logits"]) >= FLOORS_DB["fp32"]
        with pytest.raises(ConfigError, match="takes a batch of"):
            runner.run(noise(POCKET, 3)[:0])


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"\x00" * 64, "not an ONNX model"),
    ],
)
def test_the_runner_refuses_what_is_no_graph(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message), OnnxRuntimeRunner(path):
        pass


@pytest.mark.fault(14)
def test_a_truncated_graph_is_refused(pocket_run: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes((pocket_run.path / "model.onnx").read_bytes()[:-1000])
    with pytest.raises(InputError, match="not an ONNX model"), OnnxRuntimeRunner(path):
        pass


AHEAD = [
    name
    for name, target in TARGETS.items()
    if target.compute_capability and target.builds_without_gpu
]


def test_the_capability_reaches_the_compiler(tmp_path: Path) -> None:
    import tensorrt_rtx

    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger())
    for name in AHEAD:
        config = builder.create_builder_config()
        capability = TARGETS[name].compute_capability
        assert capability is not None
        assert tensorrt_build._aim(tensorrt_rtx, config, capability)
        assert config.num_compute_capabilities == 1
        assert config.get_compute_capability(0).name == f"SM{capability.replace('.', '')}"


def test_a_library_that_compiles_for_its_own_gpu_alone_says_so(
    pocket_run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not tensorrt_build._aim(None, object(), "8.6")  # TensorRT 10 and 11 have no such setting
    monkeypatch.setattr(tensorrt_build, "_aim", lambda trt, config, capability: False)
    with pytest.raises(EnvironmentMissingError, match=r"cannot compile for GPUs of 8\.6"):
        tensorrt_build.build_tensorrt(
            print,
            *("tensorrt_rtx", pocket_run.path / "model.fp16.onnx", tmp_path / "x.plan"),
            *(BatchRange(low=1, high=4), "8.6"),
        )
    assert not (tmp_path / "x.plan").exists()


def test_a_plan_for_other_gpus_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine_open, "device_problem", lambda: None)
    monkeypatch.setattr(engine_open, "device_compute_capability", lambda: "8.9")
    assert why_not_here(TARGETS["rtx-40"]) is None
    assert why_not_here(TARGETS["rtx"]) is None
    assert "of compute capability 8.6, the one of this machine has 8.9" in (
        why_not_here(TARGETS["rtx-30"]) or ""
    )
    with pytest.raises(EnvironmentMissingError, match=r"has 8\.9"):
        open_engine(TARGETS["rtx-30"], "fp16", tmp_path / "x.plan")


@pytest.mark.gpu
def test_a_plan_runs_and_agrees_with_its_graph(
    pocket_run: RunResult, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    """At every batch of the profile, and with the same image in every slot."""
    target = TARGETS["rtx"]
    assert why_not_here(target) is None
    path = pocket_run.path / target.engine_name("fp16")
    with (
        OnnxRuntimeRunner(pocket_run.path / "model.onnx") as graph,
        open_engine(target, "fp16", path) as plan,
    ):
        for count in (1, 2, 3, 4):
            images = np.repeat(noise(POCKET, 1), count, axis=0)
            expected, outputs = graph.run(images)["logits"], plan.run(images)["logits"]
            assert sqnr_db(expected, outputs) >= FLOORS_DB["fp16"]
