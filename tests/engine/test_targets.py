"""The table of targets: rows, the machine that is a row, and what they decide for a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from conftest import POCKET, Silent
from swin_deploy.core.errors import ConfigError, EnvironmentMissingError
from swin_deploy.engine import targets
from swin_deploy.engine.cost.gpus import GPUS
from swin_deploy.engine.here import Device
from swin_deploy.engine.target import is_device, row_of
from swin_deploy.engine.targets import TARGETS, auto_precisions, find_target, find_targets
from swin_deploy.network.export_form import CHOICE
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline import plan
from swin_deploy.pipeline.engines import target_notes
from swin_deploy.pipeline.plan import make_plan
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import run_export

LINUX, ARM = "linux-x86_64", "linux-aarch64"


def gpu(name: str, capability: str, **more: str) -> Device:
    return Device(**{"platform": LINUX, "compute_capability": capability, "name": name} | more)


@pytest.mark.parametrize(
    ("device", "row"),
    [
        (Device(platform=LINUX), "cpu"),
        (gpu("Tesla T4", "7.5"), "t4"),
        (gpu("NVIDIA GeForce RTX 2080 Ti", "7.5"), "rtx-20"),
        (gpu("NVIDIA A10", "8.6"), "a10"),
        (gpu("NVIDIA A10G", "8.6"), "a10"),
        (gpu("NVIDIA GeForce RTX 3090", "8.6"), "rtx-30"),
        (gpu("NVIDIA A100-SXM4-80GB", "8.0"), "a100"),
        (gpu("NVIDIA L4", "8.9"), "l4"),
        (gpu("NVIDIA L40S", "8.9"), "l40s"),
        (gpu("NVIDIA GeForce RTX 4090", "8.9"), "rtx-40"),
        (gpu("NVIDIA H100 80GB HBM3", "9.0"), "h100"),
        (gpu("NVIDIA H200", "9.0"), "h200"),
        (gpu("NVIDIA B200", "10.0"), "b200"),
        (gpu("NVIDIA GeForce RTX 5090", "12.0"), "rtx-50"),
        (gpu("NVIDIA A40", "8.6"), "tensorrt"),  # of no row
        (gpu("Tesla V100-SXM2-16GB", "7.0"), "tensorrt"),
        (gpu("Orin", "8.7", platform=ARM), "jetson-orin"),
        # Where CUDA cannot be asked, the firmware can.
        (
            Device(platform=ARM, board="NVIDIA Jetson AGX Thor Developer Kit"),
            "jetson-thor",
        ),
        (Device(platform=ARM, board="NVIDIA Jetson Orin Nano"), "jetson-orin"),
        (Device(platform=ARM, board="Raspberry Pi 5 Model B Rev 1.0"), "cpu"),
    ],
)
def test_a_machine_is_one_row(device: Device, row: str) -> None:
    assert row_of(device, TARGETS.values()) == row


def test_here_is_the_row_that_this_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "describe_device", lambda: gpu("NVIDIA L40S", "8.9"))
    assert find_target("here") is TARGETS["l40s"]
    assert [target.name for target in find_targets(["here", "cpu", "l40s"])] == ["l40s", "cpu"]
    monkeypatch.setattr(targets, "describe_device", lambda: Device(platform=LINUX))
    assert find_target("here") is TARGETS["cpu"]
    with pytest.raises(ConfigError) as caught:
        find_target("hear")
    assert "here" in caught.value.hint


def test_every_row_says_where_its_facts_stand() -> None:
    wanted = {"jetson-orin", "jetson-thor", "t4", "a10", "a100", "l4", "l40s", "h100", "h200"}
    wanted |= {"b200", "rtx-30", "rtx-40", "rtx-50", "cpu", "cpu-openvino"}
    assert wanted <= TARGETS.keys()
    for name, row in TARGETS.items():
        assert row.name == name
        assert all(": " in source or "with which" in source for source in row.sources), name
        assert row.sources
        assert row.gpu is None or row.gpu in GPUS
        assert row.gpu or not row.one_device
        assert [row.form(static) for static in (True, False)] == [
            CHOICE[row.kind, static] for static in (True, False)
        ], "the kernels of another form were measured, and docs/fusion.md says which"


def test_a_jetson_is_not_any_machine_with_its_chip() -> None:
    orin = gpu("Orin", "8.7", platform=ARM)
    assert is_device(orin, TARGETS["jetson-orin"])
    assert not is_device(replace(orin, platform=LINUX), TARGETS["jetson-orin"])
    assert not is_device(replace(orin, compute_capability="11.0"), TARGETS["jetson-orin"])
    assert not is_device(orin, TARGETS["tensorrt"])  # which is for no one device


def test_turing_gets_no_bf16() -> None:
    assert auto_precisions(["t4"], calibrated=True) == ("fp16", "int8")
    assert auto_precisions(["rtx-20"], calibrated=True) == ("fp16",)


def request(out: Path, *names: str, **more: object) -> ExportRequest:
    columns = {"variant": POCKET, "out": out, "targets": names, "precisions": ("fp32", "fp16")}
    return ExportRequest(**columns | more)  # type: ignore[arg-type]


@pytest.mark.fault(19)
def test_the_lowest_opset_among_the_targets_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {row.opset for row in TARGETS.values()} == {20}
    monkeypatch.setitem(TARGETS, "cpu", replace(TARGETS["cpu"], opset=21))
    assert make_plan(request(tmp_path, "cpu")).opset == 21
    assert make_plan(request(tmp_path, "cpu", "jetson-orin")).opset == 20


def test_a_device_that_is_not_here_gets_graphs_and_a_note(
    tmp_path: Path, listener: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    for name in ("jetson-orin", "cpu"):
        monkeypatch.setitem(TARGETS, name, replace(TARGETS[name], opset=21))
    result = run_export(request(out, "jetson-orin", "cpu"), listener)
    (opset,) = onnx.load(out / "model.onnx").opset_import
    assert opset.version == result.stages["export"].details["opset"] == 21
    assert (out / "model.fp16.onnx").is_file()
    assert {name for name in result.stages if name.startswith("engine:")} == {"engine:cpu-fp32"}
    note = f"swin-deploy bundle {out} --target jetson-orin"
    assert any(note in text for text in result.header["notes"])
    compared = {row["candidate"] for row in result.verification["comparisons"]}
    assert "onnx, fp16" in compared
    # On the device itself it is built, and asks for the library.
    orin = gpu("Orin", "8.7", platform=ARM)
    monkeypatch.setattr(plan, "describe_device", lambda: orin)
    with pytest.raises(EnvironmentMissingError, match="jetson-orin needs tensorrt") as caught:
        run_export(request(out, "jetson-orin"), listener)
    assert "JetPack" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "batch", "words"),
    [
        ("jetson-orin", BatchRange(low=1, high=8), "one image at once, and the batch is 1:8"),
        ("h100", BatchRange(), "many images at once, and the batch is 1"),
        ("jetson-orin", BatchRange(), None),
        ("h100", BatchRange(low=1, high=16), None),
        ("rtx-40", BatchRange(), None),
    ],
)
def test_a_batch_that_suits_the_target_ill_is_said(
    tmp_path: Path, name: str, batch: BatchRange, words: str | None
) -> None:
    asked = request(tmp_path, name, batch=batch)
    notes = [t for t in target_notes(asked, make_plan(asked)) if "and the batch is" in t]
    assert notes == [] if words is None else words in notes[0]
