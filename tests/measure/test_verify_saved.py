"""``verify --against``: outputs that another machine saved, and files that it did not save."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.measure.verify import saved
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run
from swin_deploy.measure.verify.saved import read_outputs
from swin_deploy.run.finished import Run

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_verify_command")


def test_outputs_from_elsewhere_are_compared(
    masked_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, kept, out = str(masked_run.path), tmp_path / "kept.npz", str(tmp_path / "x.json")
    common = ["verify", run, "--out", out]
    assert cli.run([*common, "--between", "eager,onnx", "--save", str(kept)]) == 0
    capsys.readouterr()
    assert cli.run([*common, "--against", str(kept), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    pairs = {(row["reference"], row["candidate"]) for row in report["checks"]}
    assert pairs == {
        ("eager, here", "eager, saved"),
        ("eager, here", "onnx, saved"),
        ("onnx, here", "onnx, saved"),
    }
    for change, reason in ((1e-3, "SQNR"), (np.nan, "NaN")):
        arrays = contents(kept)
        arrays["output.0.onnx.logits"][0, 2] += change
        rewrite(tmp_path / "other.npz", arrays)
        assert cli.run([*common, "--against", str(tmp_path / "other.npz")]) == 5
        failed = [row for row in json.loads(Path(out).read_text())["checks"] if not row["passed"]]
        assert {(row["candidate"], row["inputs"]) for row in failed} == {
            ("onnx, saved", "noise x1")
        }
        assert reason in failed[0]["reason"]


def contents(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].copy() for name in file.files}


def rewrite(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def with_header(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    header = json.loads(arrays["header"].tobytes()) | changes
    return arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}


def without(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in arrays.items() if key != name}


LOGITS = "output.0.onnx.logits"
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "an array is missing": (lambda a: without(a, LOGITS), "lacks"),
    "no inputs": (lambda a: without(a, "input.0"), "lacks"),
    "no header": (lambda a: without(a, "header"), "has no header"),
    "no JSON": (lambda a: a | {"header": np.frombuffer(b"{", np.uint8)}, "not JSON"),
    "a list": (lambda a: a | {"header": np.frombuffer(b"[1]", np.uint8)}, "version None"),
    "another version": (lambda a: with_header(a, schema_version=9), "version 9"),
    "no sides": (lambda a: with_header(a, sides={}), "holds no outputs"),
    "sides are a list": (lambda a: with_header(a, sides=["onnx"]), "incomplete"),
    "fewer images": (lambda a: a | {LOGITS: a[LOGITS][:0]}, "shape"),
    "a number": (lambda a: a | {LOGITS: np.float32(1)}, "shape"),
    "float64": (lambda a: a | {LOGITS: a[LOGITS].astype(np.float64)}, "is float64"),
    "images of NaN": (lambda a: a | {"input.0": a["input.0"] * np.nan}, "finite"),
}


@pytest.fixture(scope="module")
def kept(masked_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kept")
    request = VerifyRequest(
        run=masked_run.path,
        between=(("eager", "onnx"),),
        batches=(1,),
        save=folder / "kept.npz",
        out=folder / "x.json",
    )
    check_run(request, print)
    return contents(folder / "kept.npz")


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_was_not_saved_here_is_refused(
    kept: dict[str, Any], tmp_path: Path, what: str
) -> None:
    change, message = HOSTILE[what]
    with pytest.raises(InputError, match=message):
        read_outputs(rewrite(tmp_path / "x.npz", change(dict(kept))))


@pytest.mark.fault(5)
def test_pickled_objects_are_refused(kept: dict[str, Any], masked_run: Run, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "x.npz", kept | {LOGITS: np.array([{}], dtype=object)})
    with pytest.raises(UnsafeError):
        read_outputs(path)
    assert cli.run(["verify", str(masked_run.path), "--against", str(path)]) == 8


@pytest.mark.fault(28)
def test_damaged_and_bloated_files_are_refused(
    kept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rewrite(tmp_path / "whole.npz", kept)
    content = whole.read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_outputs(cut)
    twice = tmp_path / "twice.npz"
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("header.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("header.npy", b"")
    with pytest.raises(InputError, match="several arrays"):
        read_outputs(twice)
    monkeypatch.setattr(saved, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="1000 is the most"):
        read_outputs(whole)


def test_other_weights_are_refused(kept: dict[str, Any], masked_run: Run, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "x.npz", with_header(kept, run="0" * 64))
    assert cli.run(["verify", str(masked_run.path), "--against", str(path)]) == 3
