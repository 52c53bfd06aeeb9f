"""What compilers are told beside the graph, how far they are, and what is said when they fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import POCKET, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, ResourceError
from swin_deploy.core.own_files import lock_own
from swin_deploy.core.process import run_reporting
from swin_deploy.engine import build, timing_cache
from swin_deploy.engine.build import build_engine, effective_options, with_cache_file
from swin_deploy.engine.here import Fingerprint
from swin_deploy.engine.options import BuilderSettings, BuildOptions, BuildRecord, Progress
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.timing_cache import cache_file, default_folder, read_cache, write_cache
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.engines import engine_spec
from swin_deploy.pipeline.plan import make_plan
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export

BATCH = BatchRange(low=1, high=4)
HERE = Fingerprint(
    module="tensorrt",
    version="10.3.0",
    platform="linux-aarch64",
    compute_capability="8.7",
    device="Orin (nvgpu)",
)


def request(out: Path, *names: str, **more: Any) -> ExportRequest:
    return ExportRequest(variant=POCKET, out=out, targets=names, **more)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimisation_level": 6}, "6 is not from 0 to 5"),
        ({"workspace_bytes": 0}, "workspace_bytes = 0"),
        ({"aux_streams": -1}, "aux_streams = -1"),
        ({"hardware_compatible": "all"}, "'all'"),
        ({"version_compatible": True, "strip_weights": True}, "cannot be refitted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BuildOptions(**options)


def test_a_request_goes_before_the_row_and_the_row_before_the_library() -> None:
    orin = TARGETS["jetson-orin"]
    assert effective_options(orin, BuildOptions()).workspace_bytes == 2 << 30
    asked = BuildOptions(workspace_bytes=1 << 20, hardware_compatible="ampere_plus")
    told = effective_options(orin, asked)
    assert told.workspace_bytes == 1 << 20
    assert told.hardware_compatible == "none"  # JetPack has none; another target asked for it
    row = replace(orin, builder=BuilderSettings(max_tactics=7))
    assert effective_options(row, asked).max_tactics == 7
    assert BuildOptions(strip_weights=True).refits


@pytest.mark.parametrize(
    ("option", "targets", "words"),
    [
        (
            {"version_compatible": True},
            ("rtx",),
            "--version-compatible True is for tensorrt, jetson-orin",
        ),
        ({"hardware_compatible": "ampere_plus"}, ("rtx", "cpu"), "the targets are rtx, cpu"),
        ({"hardware_compatible": "ampere_plus"}, ("jetson-orin",), "is for tensorrt, t4"),
        ({"optimisation_level": 5}, ("cpu",), "--opt-level 5 is for rtx"),
        ({"workspace_bytes": 1}, ("cpu", "cpu-openvino"), "--workspace 1 is for rtx"),
        ({"timing_cache": Path("/here")}, ("rtx",), "--timing-cache /here is for tensorrt"),
        ({"timing_cache": Path("/here")}, ("rtx", "a10"), None),
        ({"timing_cache": default_folder()}, ("cpu",), None),  # of which nobody spoke
        ({"optimisation_level": 5}, ("rtx", "cpu"), None),
        ({"hardware_compatible": "ampere_plus"}, ("h100", "cpu"), None),
    ],
)
def test_what_no_target_takes_is_refused_with_those_that_do(
    tmp_path: Path, option: dict[str, Any], targets: tuple[str, ...], words: str | None
) -> None:
    asked = request(tmp_path, *targets, build=BuildOptions(**option))
    if words is None:
        assert make_plan(asked).engines
    else:
        with pytest.raises(ConfigError, match=words):
            make_plan(asked)


def test_the_command_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", "--variant", "swin_pocket", "--out", str(tmp_path / "run")]
    assert cli.run([*export, "--target", "cpu", "--workspace", "2GiB"]) == 2
    assert f"--workspace {2 << 30} is for rtx" in capsys.readouterr().err
    assert cli.run([*export, "--workspace", "2 apples"]) == 2
    assert "no size like 2GiB" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_changed_option_is_another_engine_and_a_moved_cache_is_not(tmp_path: Path) -> None:
    rtx = TARGETS["rtx"]
    plain = engine_spec(request(tmp_path, "rtx"), rtx)
    cached = BuildOptions(timing_cache=tmp_path)
    assert engine_spec(request(tmp_path, "rtx", build=cached), rtx) == plain
    harder = BuildOptions(optimisation_level=5)
    assert engine_spec(request(tmp_path, "rtx", build=harder), rtx) != plain
    assert engine_spec(request(tmp_path, "rtx", build=harder), TARGETS["cpu"]) == {"batch": "1"}


def test_the_compiler_tells_how_far_it_is_and_what_it_was_told(
    pocket_run: RunResult, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    options = BuildOptions(optimisation_level=1, workspace_bytes=1 << 30, aux_streams=0)
    built = build_engine(
        *(TARGETS["rtx-40"], pocket_run.path / "model.fp16.onnx", tmp_path / "x.plan"),
        *(BATCH, tmp_path / "log", tmp_path / "x.kernels.json", options),
        lambda *progress: told.append(progress),
    )
    assert len(told) > 3
    assert "Building engine" in {phase for phase, _, _ in told}
    assert built.settings == {
        "flags": ["STRONGLY_TYPED"],
        "hardware_compatibility_level": "NONE",
        "profiling_verbosity": "DETAILED",
        "builder_optimization_level": 1,
        "memory_pool_limit": {"WORKSPACE": 1 << 30},
        "max_aux_streams": 0,
    }
    assert built.built_for.runs_on == ("8.9",)
    assert "tensorrt_rtx" in (tmp_path / "log").read_text()


def test_runs_keep_the_log_and_names_in_place_of_numbers(pocket_run: RunResult) -> None:
    log = pocket_run.path / "engines" / "rtx-fp16.log"
    assert "builds model.fp16.onnx" in log.read_text()
    record = pocket_run.stages["engine:rtx-fp16"]
    assert "engines/rtx-fp16.log" in record.outputs
    assert record.details["settings"]["flags"] == ["STRONGLY_TYPED"]
    assert record.details["settings"]["profiling_verbosity"] == "DETAILED"


def test_without_a_gpu_no_plan_is_refittable_and_that_is_said(
    pocket_run: RunResult, tmp_path: Path
) -> None:
    """TensorRT-RTX compiles kernels for the GPU at hand where weights shall be replaced."""
    if build.device_problem() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(EnvironmentMissingError, match="CUDA_SUCCESS") as caught:
        build_engine(
            *(TARGETS["rtx"], pocket_run.path / "model.fp16.onnx", tmp_path / "x.plan"),
            *(BATCH, tmp_path / "log", None, BuildOptions(strip_weights=True)),
        )
    assert "--refittable" in caught.value.hint
    assert "it was at Building engine" in caught.value.problem
    assert "the last node that it named is" in caught.value.problem
    assert not (tmp_path / "x.plan").exists()


def die_while_compiling(report: Callable[[Progress], None], *ignored: object) -> None:
    """What the system does to a compiler that takes too much memory."""
    print("ERROR: the last words", flush=True)
    report(Progress(("Building engine", "Timing tactics"), 3, 9, "layers.1.blocks.0.attn/MatMul"))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fault(35)
def test_a_killed_build_says_where_it_was_and_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(function: object, *arguments: Any) -> Any:
        return run_reporting(die_while_compiling, *arguments)

    monkeypatch.setattr(build, "run_reporting", run)
    with pytest.raises(ResourceError) as caught:
        build_engine(
            *(TARGETS["rtx"], tmp_path / "x.onnx", tmp_path / "x.plan", BATCH, tmp_path / "log")
        )
    where = "x.plan ended at Building engine > Timing tactics, step 3 of 9"
    assert where in caught.value.problem
    assert "layers.1.blocks.0.attn/MatMul" in caught.value.problem
    assert "died of SIGKILL" in caught.value.problem
    assert "the last words" in caught.value.problem
    assert "--workspace" in caught.value.hint
    assert not (tmp_path / "x.plan").exists()


def count_to(report: Callable[[Any], None], end: int) -> int:
    for number in range(end):
        report(number)
    return end


def test_a_child_tells_in_order_and_then_answers(tmp_path: Path) -> None:
    heard: list[int] = []
    assert run_reporting(count_to, tmp_path / "log", 60, heard.append, 3) == 3
    assert heard == [0, 1, 2]


def test_phases_nest_and_nodes_are_known_by_name() -> None:
    said: list[Progress] = []
    record = BuildRecord(said.append)
    record.nodes = frozenset({"a/MatMul"})
    assert str(record.progress) == "the start"
    record.started("outer", 2)
    record.started("inner", 5)
    record.stepped("inner", 1)
    record.heard("VERBOSE", "Autotuning [ONNX Layer: a/MatMul], and b/MatMul")
    record.heard("ERROR", "no memory")
    assert record.progress == Progress(("outer", "inner"), 2, 5, "a/MatMul")
    assert record.errors == "no memory"
    record.started("left open", 1)
    record.finished("inner")
    assert record.progress.phases == ("outer",)
    record.finished("outer")
    assert record.progress.phases == ()
    assert [progress.phases[-1] for progress in said[:2]] == ["outer", "inner"]


def test_a_timing_cache_belongs_to_a_gpu_a_tensorrt_and_a_cuda(tmp_path: Path) -> None:
    path = cache_file(tmp_path, HERE, "12.6")
    assert path == tmp_path / "Orin_nvgpu_-sm87-tensorrt10.3.0-cuda12.6.timing"
    others = [
        cache_file(tmp_path, replace(HERE, version="10.16.1"), "12.6"),
        cache_file(tmp_path, replace(HERE, compute_capability="8.9"), "12.6"),
        cache_file(tmp_path, replace(HERE, device="NVIDIA L4"), "12.6"),
        cache_file(tmp_path, HERE, "13.0"),
    ]
    assert len({path, *others}) == 5


@pytest.mark.fault(35)
def test_a_timing_cache_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "x.timing"
    assert read_cache(path) == (b"", "")
    assert write_cache(path, b"timings") == ""
    assert read_cache(path) == (b"timings", "")
    with lock_own(path.with_suffix(".lock"), str(path), "wait"):
        assert "was not kept" in write_cache(path, b"others")
    assert read_cache(path) == (b"timings", "")
    monkeypatch.setattr(timing_cache, "LIMIT_BYTES", 3)
    assert read_cache(path)[0] == b""
    assert "larger than 3" in read_cache(path)[1]
    path.unlink()
    path.mkdir()
    assert "cannot be read" in read_cache(path)[1]


def test_only_tensorrt_with_its_gpu_has_a_timing_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = BuildOptions(timing_cache=tmp_path)
    monkeypatch.setattr(build, "fingerprint_here", lambda *names: HERE)
    monkeypatch.setattr(build, "device_problem", lambda: None)
    monkeypatch.setattr(build, "driver_version", lambda: "12.6")
    assert with_cache_file(TARGETS["rtx"], asked).timing_cache is None
    assert with_cache_file(TARGETS["rtx-40"], asked).timing_cache is None
    found = with_cache_file(TARGETS["jetson-orin"], asked).timing_cache
    assert found is not None
    assert found.parent == tmp_path
    assert with_cache_file(TARGETS["jetson-orin"], BuildOptions()).timing_cache is None
    monkeypatch.setattr(build, "device_problem", lambda: "no GPU")
    assert with_cache_file(TARGETS["jetson-orin"], asked).timing_cache is None


def test_it_lies_in_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/swin-deploy/timing")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    assert default_folder() == Path.home() / ".cache" / "swin-deploy" / "timing"


@pytest.mark.fault(35)
def test_the_log_of_a_failed_build_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: Silent
) -> None:
    monkeypatch.setattr(build, "run_reporting", lambda f, *more: run_reporting(give_up, *more))
    asked = request(tmp_path / "run", "rtx", precisions=("fp16",))
    with pytest.raises(ResourceError) as caught:
        run_export(asked, listener)
    (log,) = [word for word in caught.value.hint.split() if word.endswith(".log")]
    assert "the last words" in Path(log).read_text()
    assert not (tmp_path / "run" / "engines").exists()


def give_up(*ignored: object) -> None:
    """A compiler that ends without an answer."""
    print("the last words", flush=True)
    os._exit(3)
