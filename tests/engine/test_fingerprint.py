"""What an engine was built for, against what a machine is."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from manifests import edit_manifest
from swin_deploy.core.errors import EnvironmentMissingError, InputError
from swin_deploy.core.records import decode
from swin_deploy.engine import open as engine_open
from swin_deploy.engine.here import (
    Fingerprint,
    fingerprint_here,
    mismatch,
    platform_here,
    require_match,
)
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.bench.subject import open_subject
from swin_deploy.pipeline.run import RunResult
from swin_deploy.run.finished import require_run

ORIN = Fingerprint(
    module="tensorrt", version="10.3.0", platform="linux-aarch64", compute_capability="8.7"
)
H100 = Fingerprint(
    module="tensorrt", version="11.4.0.106", platform="linux-x86_64", compute_capability="9.0"
)
RTX = Fingerprint(
    module="tensorrt_rtx", version="1.7.1.116", platform="linux-x86_64", runs_on=("8.6", "8.9")
)
RTX_HERE = replace(RTX, runs_on=(), compute_capability="8.9")
CPU = Fingerprint(module="onnxruntime", version="1.30.1", platform="linux-x86_64")


@pytest.mark.fault(32)
def test_an_engine_for_another_machine_is_refused_with_both(tmp_path: Path) -> None:
    path = tmp_path / "x.plan"
    with pytest.raises(EnvironmentMissingError) as caught:
        require_match(ORIN, H100, path)
    assert str(caught.value).startswith(
        f"{path} was built for sm_87 TensorRT 10.3.0 on linux-aarch64, "
        "here is sm_90 TensorRT 11.4.0.106 on linux-x86_64"
    )
    assert "rebuild" in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("recorded", "here", "reason"),
    [
        (H100, H100, None),
        (H100, replace(H100, version="11.4.1.10"), "another version"),
        (H100, replace(H100, version="11.4.0.105"), "another version"),
        (H100, replace(H100, compute_capability="8.9"), "another compute capability"),
        (H100, replace(H100, compute_capability=None), "another compute capability"),
        (H100, replace(H100, platform="linux-aarch64"), "not portable across platforms"),
        (H100, RTX_HERE, "it needs tensorrt, this is tensorrt_rtx"),
        (replace(H100, version=None), replace(H100, version=None), "another version"),
        (RTX, RTX_HERE, None),
        (RTX, replace(RTX_HERE, compute_capability="9.0"), "another compute capability"),
        (RTX, replace(RTX_HERE, version="1.8.0.1"), "another version"),
        (
            replace(RTX, version_compatible=True),
            replace(RTX_HERE, version="1.8"),
            "another version",
        ),
        (CPU, CPU, None),
        (CPU, replace(CPU, platform="linux-aarch64", version="1.31.0"), None),
        (CPU, replace(CPU, version="1.29.2"), "older than the one that wrote it"),
        (CPU, replace(CPU, version=None), "older than the one that wrote it"),
    ],
)
def test_what_loads_where(recorded: Fingerprint, here: Fingerprint, reason: str | None) -> None:
    found = mismatch(recorded, here)
    assert found is None if reason is None else reason in (found or "")


@pytest.mark.parametrize(
    ("built", "loads", "fits"),
    [
        ("10.3.0", "10.16.1.11", True),
        ("10.16.1.11", "11.4.0.106", True),
        ("11.4.0.106", "11.4.1.10", True),
        ("11.4.1.10", "11.4.0.106", False),  # never an older one
        ("11.4.0.106", "10.16.1.11", False),
        ("9.3.0", "10.3.0", False),  # across majors only from 10 to 11
        ("11.4.0", "12.0.0", False),
    ],
)
def test_version_compatible_plans_load_in_newer_versions(
    built: str, loads: str, fits: bool
) -> None:
    recorded = replace(H100, version=built, version_compatible=True)
    assert (mismatch(recorded, replace(H100, version=loads)) is None) == fits
    assert mismatch(replace(recorded, version_compatible=False), replace(H100, version=loads))


def test_hardware_compatible_plans_load_on_other_gpus() -> None:
    ampere = replace(H100, hardware_compatible="ampere_plus")
    assert mismatch(ampere, replace(H100, compute_capability="10.0")) is None
    assert mismatch(ampere, replace(H100, compute_capability="8.0")) is None
    assert mismatch(ampere, replace(H100, compute_capability="7.5"))
    same = replace(H100, hardware_compatible="same_compute_capability")
    assert mismatch(same, H100) is None
    assert mismatch(same, replace(H100, compute_capability="8.9"))


def test_it_survives_the_manifest() -> None:
    data = json.loads(json.dumps(asdict(RTX)))
    assert decode(Fingerprint, data, "manifest") == RTX
    with pytest.raises(InputError, match='it is "Orin", not an object'):
        decode(Fingerprint, "Orin", "manifest")
    with pytest.raises(InputError, match=r"version is .missing., not there"):
        decode(Fingerprint, {"module": "tensorrt"}, "manifest")


def test_runs_record_it(pocket_run: RunResult) -> None:
    engines = require_run(pocket_run.path).engines
    plan = engines["rtx-fp16"].details.built_for
    assert plan.runs_on == TARGETS["rtx"].runs_on
    assert (plan.module, plan.platform) == ("tensorrt_rtx", platform_here())
    graph = engines["cpu-fp32"].details.built_for
    assert graph == fingerprint_here("onnxruntime", "onnxruntime")


def test_no_byte_is_read_of_an_engine_for_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan does not even exist."""
    monkeypatch.setattr(engine_open, "device_problem", lambda: None)
    monkeypatch.setattr(engine_open, "fingerprint_here", lambda *names: RTX_HERE)
    newer = replace(RTX, version="1.8.0.1")
    with pytest.raises(EnvironmentMissingError, match=r"TensorRT-RTX 1\.8\.0\.1 on linux-x86_64"):
        open_engine(TARGETS["rtx"], "fp16", tmp_path / "no.plan", built_for=newer)
    assert open_engine(TARGETS["rtx"], "fp16", tmp_path / "no.plan", built_for=RTX)


def test_bench_refuses_an_engine_of_a_newer_runtime(pocket_run: RunResult, tmp_path: Path) -> None:

    folder = shutil.copytree(pocket_run.path, tmp_path / "run")
    edit_manifest(
        folder,
        lambda m: m["stages"]["engine:cpu-fp32"]["details"]["built_for"].update(version="99.0"),
    )
    with pytest.raises(EnvironmentMissingError, match=r"onnxruntime 99\.0 .* here is onnxruntime"):
        open_subject(folder / "engines" / "cpu-fp32.onnx", None, None)
