"""Scales of INT8 are those of the calibration, in graphs and engines, or nothing is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import behind
from conftest import Silent
from gates import published, request
from manifests import edit_manifest
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import VerificationError
from swin_deploy.core.files import sha256
from swin_deploy.measure.verify.conversions import require_scales_of_graph
from swin_deploy.pipeline.request import ExportRequest, Int8Options
from swin_deploy.pipeline.run import run_export
from swin_deploy.run.details import STATISTICS

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_gate")


def int8(photos: Path, out: Path) -> ExportRequest:
    options = Int8Options(calibration=photos, images=20)
    return request(out, precisions=("fp32", "int8"), int8=options)


@pytest.fixture(scope="module")
def quantised(gate_run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with INT8. Tests must not change it."""
    out = shutil.copytree(gate_run, tmp_path_factory.mktemp("quantised") / "run")
    return run_export(int8(photos, out), Silent()).path


INT8_GRAPH, INT8_ENGINE = "model.int8.cpu.onnx", "engines/cpu-int8.onnx"


def scale_by(factor: float, most: int) -> behind.Change:
    """The first scales of activations times a number."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        names = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        found = [t for t in model.graph.initializer if t.name in names][:most]
        assert found
        for tensor in found:
            value = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        onnx.save(model, path)

    return change


@pytest.mark.parametrize(
    "change",
    [scale_by(8, 1), scale_by(4, 100), scale_by(1 + 2**-10, 1)],
    ids=["one by 8", "all by 4", "one by a thousandth"],
)
def test_a_scale_that_calibration_does_not_give_is_refused(
    quantised: Path, photos: Path, change: behind.Change, tmp_path: Path
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    adapt = behind.behind("int8:onnxruntime", INT8_GRAPH, change)
    with pytest.raises(VerificationError, match=r"scale .* calibration gives"):
        run_export(int8(photos, copy), Silent(), adapt)
    assert published(copy) == published(quantised)


def test_an_engine_has_the_scales_of_its_graph(quantised: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    graph, engine = copy / INT8_GRAPH, copy / INT8_ENGINE
    require_scales_of_graph(graph, engine)
    scale_by(4, 1)(copy / INT8_ENGINE)
    with pytest.raises(VerificationError, match="has other scales than"):
        require_scales_of_graph(graph, engine)


def relist(run: Path, name: str) -> None:
    """Put the hash of what a file is now into the manifest, as whoever means harm would."""

    def edit(manifest: dict[str, Any]) -> None:
        for stage in manifest["stages"].values():
            if name in stage["outputs"]:
                stage["outputs"][name] = sha256(run / name)

    edit_manifest(run, edit)


def test_verify_finds_what_the_gate_would(
    quantised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    assert cli.run(["verify", str(copy)]) == 0
    assert "compared exactly with what they were made from: INT8" in capsys.readouterr().out
    scale_by(1.5, 1)(copy / INT8_GRAPH)
    relist(copy, INT8_GRAPH)
    assert cli.run(["verify", str(copy)]) == 5
    assert "is quantised with scale" in capsys.readouterr().err
    report = json.loads((copy / "checks.json").read_text())
    assert not report["passed"]
    assert "calibration gives" in report["problem"]
    assert cli.run(["bundle", str(copy), "--target", "cpu", "--precision", "int8"]) == 5
    assert "is quantised with scale" in capsys.readouterr().err


def test_verify_finds_an_engine_in_the_place_of_another(
    quantised: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    shutil.copyfile(copy / "engines" / "cpu-fp32.onnx", copy / INT8_ENGINE)
    relist(copy, INT8_ENGINE)
    assert cli.run(["verify", str(copy)]) == 5
    assert f"{INT8_ENGINE} is not the file its compiler wrote" in capsys.readouterr().err


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def count_otherwise(path: Path) -> None:
    """A file that is whole, of other images."""
    with np.load(path) as archive:
        head, counts = json.loads(archive["head"].tobytes()), archive["counts"]
    next(iter(head["tensors"].values()))["maximum"] *= 2
    np.savez_compressed(
        path, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8), counts=counts
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [(cut_short, "is damaged"), (count_otherwise, "does not hold what was counted")],
)
def test_statistics_that_are_damaged_are_refused_and_not_made_again(
    quantised: Path, photos: Path, change: behind.Change, message: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(quantised, tmp_path / "run")
    listener = Silent()
    with pytest.raises(VerificationError, match=message) as caught:
        run_export(int8(photos, copy), listener, behind.behind("calibrate", STATISTICS, change))
    assert caught.value.exit_code == 5
    assert not any("calibrating again" in note for note in listener.notes)
    assert published(copy) == published(quantised)
