"""Target cpu-openvino: built when asked for, of two files, run in the precision of its graph."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import FULL_SIZE, POCKET, TRAINED, Silent, trained_request
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    InputError,
    ResourceError,
    UnsafeError,
)
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.doctor import examine
from swin_deploy.engine.here import integer_sums_saturate
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.openvino import OpenVinoRunner, compile_engine, runtime_settings
from swin_deploy.engine.targets import TARGETS, auto_precisions
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.bench.subject import open_subject
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.network.judge import sqnr_db
from swin_deploy.pipeline.request import ExportRequest, Int8Options
from swin_deploy.pipeline.run import RunResult, run_export

TARGET = TARGETS["cpu-openvino"]
pytestmark = pytest.mark.skipif(not TARGET.installed, reason="needs the openvino extra")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The trained network for both CPU runtimes, batch 1 to 4. Tests must not change it."""
    request = trained_request(
        tmp_path_factory.mktemp("openvino run"),
        batch=BatchRange(low=1, high=4),
        precisions=("fp32", "bf16", "int8"),
        targets=("cpu", "cpu-openvino"),
        int8=Int8Options(calibration=photos, images=40),
    )
    return run_export(request, Silent())


@pytest.fixture
def run_copy(run: RunResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / "copy"))


def capabilities() -> list[str]:
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def precisions_of_products(path: Path, settings: dict[str, Any]) -> dict[str, str]:
    """ONNX nodes of a product with weights -> what it multiplies in, as the compiled model says."""
    model = compile_engine(path, settings).get_runtime_model()
    infos = [node.get_rt_info() for node in model.get_ordered_ops()]
    return {
        info["originalLayersNames"].astype(str): info["runtimePrecision"].astype(str)
        for info in infos
        if info["layerType"].astype(str) == "FullyConnected"
    }


def test_every_engine_agrees_with_eager(run: RunResult) -> None:
    for precision in TARGET.precisions:
        rows = [
            row
            for row in run.verification["comparisons"]
            if row["candidate"] == f"engine cpu-openvino-{precision}"
        ]
        judged = [row for row in rows if row["judged"]]  # INT8 on photos alone
        assert judged
        assert {row["floor_db"] for row in judged} == {FLOORS_DB[precision]}
        assert all(row["sqnr_db"] >= FLOORS_DB[precision] for row in judged)


def test_both_cpu_runtimes_share_one_quantised_graph(run: RunResult) -> None:
    assert [name for name in run.stages if name.startswith("int8:")] == ["int8:onnxruntime"]
    assert {"engine:cpu-int8", "engine:cpu-openvino-int8"} <= run.stages.keys()
    assert not (run.path / "model.int8.onnx").exists()


def test_an_engine_is_two_files_with_a_hash_each(run: RunResult) -> None:
    for precision in TARGET.precisions:
        stage = run.stages[f"engine:cpu-openvino-{precision}"]
        names = TARGET.engine_files(precision)
        assert names == tuple(f"engines/cpu-openvino-{precision}.{s}" for s in ("xml", "bin"))
        assert tuple(stage.outputs) == names
        assert all((run.path / name).is_file() for name in names)


@pytest.mark.fault(17)
@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_a_change_to_either_file_is_refused(run_copy: Path, suffix: str) -> None:
    path = run_copy / f"engines/cpu-openvino-fp32.{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnsafeError, match=f"{suffix} was changed"):
        open_subject(run_copy / "engines/cpu-openvino-fp32.xml", None, None)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("bin", None, "does not exist"),
        ("bin", b"", "is empty"),
        ("bin", b"\0" * 64, "not a model that OpenVINO runs"),
        ("xml", b"<net/>", "not a model that OpenVINO runs"),
    ],
)
def test_half_an_engine_is_refused(
    run_copy: Path, suffix: str, content: bytes | None, message: str
) -> None:
    path = run_copy / f"engines/cpu-openvino-fp32.{suffix}"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    engine = run_copy / "engines/cpu-openvino-fp32.xml"
    with pytest.raises(InputError, match=message), OpenVinoRunner(engine, "fp32"):
        pass


def test_a_runner_says_what_it_takes(
    run: RunResult, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    path = run.path / TARGET.engine_name("fp32")
    with open_engine(TARGET, "fp32", path, threads=1) as runner:
        assert runner.batch.low == 1
        assert runner.run(noise(TRAINED, 3))["logits"].shape == (3, 10)
        with pytest.raises(ConfigError, match="takes a batch of"):
            runner.run(noise(TRAINED, 3)[:0])
        with pytest.raises(ConfigError, match="takes images of"):
            runner.run(noise(TRAINED, 1)[..., :16])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_threads_are_those_that_were_asked_for(run: RunResult, threads: int) -> None:
    path = run.path / TARGET.engine_name("fp32")
    compiled = compile_engine(path, runtime_settings("fp32", threads))
    cores = len(os.sched_getaffinity(0))  # a worker of the tests may have one alone
    assert compiled.get_property("INFERENCE_NUM_THREADS") == min(threads, cores)


@pytest.mark.skipif(
    not TARGET.installed or "BF16" not in capabilities(), reason="needs a CPU with BF16"
)
def test_without_its_hint_an_fp32_engine_is_none(
    run: RunResult, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    """OpenVINO would compute it in BF16, and the floor of FP32 sees that."""
    path, images = run.path / TARGET.engine_name("fp32"), noise(TRAINED, 3)
    with OnnxRuntimeRunner(run.path / "model.onnx") as graph:
        expected = graph.run(images)["logits"]
    found = {}
    for hint in (True, False):
        settings = runtime_settings("fp32", 1)
        if not hint:
            del settings["INFERENCE_PRECISION_HINT"]
        found[hint] = sqnr_db(expected, compile_engine(path, settings)(images)[0])
    assert found[False] < FLOORS_DB["fp32"] <= found[True]
    assert set(precisions_of_products(path, runtime_settings("fp32", 1)).values()) == {"f32"}


@pytest.mark.skipif(
    not TARGET.installed or "INT8" not in capabilities() or integer_sums_saturate(),
    reason="needs a CPU with INT8 whose sums do not saturate: VNNI or AMX",
)
def test_every_quantised_product_multiplies_in_int8(run: RunResult) -> None:
    path = run.path / TARGET.engine_name("int8")
    quantised = set(run.stages["int8:onnxruntime"].details["gemms"].values())
    found = precisions_of_products(path, runtime_settings("int8", 1))
    in_int8 = [names for names, precision in found.items() if precision == "i8"]
    assert len(quantised) == 26
    assert quantised == {node for node in quantised for names in in_int8 if f"{node}/" in names}


def test_weights_in_fp16_would_fail_the_gate(
    run: RunResult, tmp_path: Path, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    """What ``openvino.save_model`` does unless it is told not to."""
    import openvino

    images = noise(TRAINED, 3)
    model = openvino.Core().read_model(str(run.path / "model.onnx"))
    openvino.save_model(model, str(tmp_path / "x.xml"))
    outputs = []
    for path in (run.path / TARGET.engine_name("fp32"), tmp_path / "x.xml"):
        with OpenVinoRunner(path, "fp32") as runner:
            outputs.append(runner.run(images)["logits"])
    assert sqnr_db(*outputs) < FLOORS_DB["fp32"]


def test_what_is_no_graph_is_refused_and_replaces_nothing(tmp_path: Path) -> None:
    source, final = tmp_path / "x.onnx", tmp_path / "x.xml"
    source.write_bytes(b"not a graph")
    final.write_bytes(b"an earlier engine")
    with pytest.raises(InputError, match=r"openvino cannot read x\.onnx"):
        build_engine(TARGET, source, final, BatchRange(), tmp_path / "log")
    assert final.read_bytes() == b"an earlier engine"
    assert not final.with_suffix(".bin").exists()


def test_an_engine_that_cannot_be_written_is_no_bug(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swin_deploy.engine.build import build_openvino

    def full(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Can't open bin file")

    monkeypatch.setattr("openvino.save_model", full)
    with pytest.raises(ResourceError, match="bytes are free"):
        build_openvino(run.path / "model.onnx", tmp_path / "x.xml")


def test_it_is_built_only_when_asked_for(pocket_run: RunResult) -> None:
    assert not any("openvino" in name for name in pocket_run.stages)
    assert auto_precisions((), calibrated=False) == ("fp32", "fp16")
    assert auto_precisions(("cpu-openvino",), calibrated=True) == ("fp32", "int8")


def test_bench_measures_it_beside_a_baseline_on_the_cpu(run_copy: Path) -> None:
    path = run_copy / "engines/cpu-openvino-fp32.xml"
    assert not open_subject(path, 1, None).on_gpu
    request = BenchRequest(engine=path, batches=(2,), rounds=2, threads=1)
    report = bench_engine(request, lambda title: None)
    assert [row["name"] for row in report["measurements"]][1:] == ["engine cpu-openvino-fp32"]
    assert report["checks"]
    assert "openvino" in report["machine"]["packages"]


def test_pixels_go_in_and_classes_come_out(tmp_path: Path) -> None:
    request = ExportRequest(
        variant=POCKET,
        out=tmp_path,
        precisions=("fp32",),
        targets=("cpu-openvino",),
        interface=Interface(io="uint8", activation="softmax", topk=3),
    )
    result = run_export(request, Silent())
    rows = result.verification["comparisons"]
    seen = {row["output"] for row in rows if row["candidate"] == "engine cpu-openvino-fp32"}
    assert seen == {row["output"] for row in rows if row["candidate"] == "onnx, simplified"}
    images = np.zeros((1, *POCKET.config.image_size, 3), np.uint8)
    with OpenVinoRunner(tmp_path / TARGET.engine_name("fp32"), "fp32") as runner:
        outputs = runner.run(images)
    assert {name: array.dtype.name for name, array in outputs.items()} == {
        "scores": "float32",
        "classes": "int64",
    }


def test_the_doctor_knows_it() -> None:
    found = {finding.name: finding for finding in examine()}
    assert found["openvino"].ok
    assert found["target cpu-openvino"].state == "builds, runs here"


def test_where_it_is_missing_its_install_command_is_named(tmp_path: Path) -> None:
    assert importlib.util.find_spec("no_such_runtime") is None
    missing = replace(TARGET, module="no_such_runtime")
    with pytest.raises(EnvironmentMissingError, match="no_such_runtime is not installed") as caught:
        open_engine(missing, "fp32", tmp_path / "x.xml")
    assert caught.value.hint == TARGET.install


@pytest.mark.slow
def test_the_tiny_network_is_verified(tmp_path: Path) -> None:
    request = ExportRequest(
        variant=FULL_SIZE["swin_t"],
        out=tmp_path,
        precisions=("fp32", "bf16"),
        targets=("cpu-openvino",),
    )
    result = run_export(request, Silent())
    assert result.verification["passed"]
    assert {f"engine:cpu-openvino-{precision}" for precision in ("fp32", "bf16")} <= (
        result.stages.keys()
    )
