"""ONNX Runtime's execution providers by name, and OpenVINO with several requests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import POCKET
from providers import AZURE, needs_azure
from swin_deploy.core.errors import ConfigError, EnvironmentMissingError
from swin_deploy.engine.build import build_openvino
from swin_deploy.engine.runners.onnxruntime import (
    CPU,
    OnnxRuntimeRunner,
    _elsewhere,
    find_provider,
    open_session,
    session_options,
)
from swin_deploy.engine.runners.openvino import OpenVinoRunner, runtime_settings
from swin_deploy.network.catalogue import Variant


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """(b, 3, 64, 64) -> logits (b, 7): one product, enough to see where it is computed."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    weights = np.random.default_rng(0).standard_normal((3 * 64 * 64, 7), dtype=np.float32)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, 64, 64])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 7])
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes, "small", [image], [logits], [numpy_helper.from_array(weights / 64, "weights")]
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_providers_go_by_short_and_full_names(name: str) -> None:
    assert find_provider(name) == CPU


@pytest.mark.parametrize("name", ["quantum", "CPUExecution", ""])
def test_an_unknown_provider_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(EnvironmentMissingError, match="no execution provider") as caught:
        find_provider(name)
    assert caught.value.exit_code == 4
    assert CPU in caught.value.hint


@needs_azure
def test_a_provider_that_leaves_everything_to_the_cpu_is_refused(graph: Path) -> None:
    runner = OnnxRuntimeRunner(graph, provider="azure")
    with pytest.raises(EnvironmentMissingError, match=rf"{AZURE} computes none of the \d+ nodes"):
        runner.__enter__()


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_not_replaced(graph: Path) -> None:
    """ONNX Runtime opens the session on the CPU and goes on."""
    with pytest.raises(EnvironmentMissingError, match=f"took {CPU} in its place"):
        open_session(graph, session_options(1), "MIGraphXExecutionProvider")


def group_of(provider: str, *kinds: str) -> Any:
    nodes = [SimpleNamespace(op_type=kind) for kind in kinds]
    return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)


def session(*groups: Any) -> Any:
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: list(groups))


def test_nodes_on_the_cpu_are_noted() -> None:
    assert _elsewhere(session(group_of("X", "Add", "MatMul")), "X") == []
    mixed = session(group_of("X", "Add"), group_of(CPU, "Gather"), group_of(CPU, "Gather", "Shape"))
    assert _elsewhere(mixed, "X") == ["3 of 4 nodes are not computed by X: 2 Gather, 1 Shape"]
    with pytest.raises(EnvironmentMissingError, match="none of the 1 nodes"):
        _elsewhere(session(group_of(CPU, "Add")), "X")
    assert "does not say" in _elsewhere(SimpleNamespace(), "X")[0]


@pytest.fixture(scope="module")
def openvino_engine(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino", reason="needs the openvino extra")
    path = tmp_path_factory.mktemp("openvino") / "x.xml"
    build_openvino(graph, path)
    return path


@pytest.mark.parametrize("requests", [1, 3, None])
def test_threads_share_an_openvino_runner(
    openvino_engine: Path, requests: int | None, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    calls = [noise(POCKET, 3)[i % 3 : i % 3 + 1 + i % 2] for i in range(24)]
    with OpenVinoRunner(openvino_engine, "fp32", requests=requests) as runner:
        expected = [runner.run(images)["logits"] for images in calls]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda images: runner.run(images)["logits"], calls))
        assert runner.requests == requests or requests is None
        assert runner._free.qsize() == runner.requests
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_call_that_fails_gives_its_request_back(
    openvino_engine: Path,
    noise: Callable[[Variant, int], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(output: Any) -> Any:
        raise MemoryError

    with OpenVinoRunner(openvino_engine, "fp32") as runner:
        for _ in range(2):
            with pytest.raises(ConfigError, match="takes images of"):
                runner.run(noise(POCKET, 1)[..., :16])
            with monkeypatch.context() as patch:
                patch.setattr("swin_deploy.engine.runners.openvino.as_float32", fail)
                with pytest.raises(MemoryError):
                    runner.run(noise(POCKET, 1))
        assert runner.run(noise(POCKET, 1))["logits"].shape == (1, 7)


def test_one_request_is_for_latency_and_more_for_throughput() -> None:
    assert runtime_settings("fp32", 1)["PERFORMANCE_HINT"] == "LATENCY"
    assert runtime_settings("fp32", 1, None)["PERFORMANCE_HINT"] == "THROUGHPUT"
    assert runtime_settings("fp32", 1, 4)["PERFORMANCE_HINT_NUM_REQUESTS"] == 4
    with pytest.raises(ConfigError, match="requests = 0"):
        OpenVinoRunner(Path("x.xml"), "fp32", requests=0)
