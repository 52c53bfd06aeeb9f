"""The files that a report is made of: what is read, what is missing, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import report_files
from manifests import edit_manifest
from measured_runs import silent, write
from swin_deploy.cli.main import run
from swin_deploy.core import records
from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.report.gather import KINDS, ReportData, gather, read_content, recognise
from swin_deploy.report.headline import make_headline
from swin_deploy.report.page import make_report, render_html

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_report")


def nan(content: dict[str, Any]) -> None:
    content["measurements"][0]["p50_ms"] = float("nan")


def infinite(content: dict[str, Any]) -> None:
    content["measurements"][0]["speedup_high"] = float("inf")


def longer_than_time(content: dict[str, Any]) -> None:
    content["measurements"][0]["p99_ms"] = 1e300


def words_for_a_number(content: dict[str, Any]) -> None:
    content["measurements"][0]["p50_ms"] = "fast"


def no_rows(content: dict[str, Any]) -> None:
    content["measurements"] = []


def an_object_for_a_list(content: dict[str, Any]) -> None:
    content["measurements"] = {"name": "x"}


def a_huge_batch(content: dict[str, Any]) -> None:
    content["measurements"][0]["batch"] = 10**400


def a_huge_name(content: dict[str, Any]) -> None:
    content["network"] = "x" * 1_000_000


def another_version(content: dict[str, Any]) -> None:
    content["schema_version"] = 2


def without_a_machine(content: dict[str, Any]) -> None:
    del content["machine"]


@pytest.mark.parametrize(
    "damage",
    [
        *(nan, infinite, longer_than_time, words_for_a_number, no_rows, an_object_for_a_list),
        *(a_huge_batch, a_huge_name, another_version, without_a_machine),
    ],
)
def test_damaged_reports_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[dict[str, Any]], None]
) -> None:
    content = report_files.bench()
    damage(content)
    path = write(tmp_path / "bench.json", content)
    assert run(["report", str(path), "--out", str(tmp_path / "out")]) == 3
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_version_before_is_read_too(tmp_path: Path) -> None:
    for name, content in (
        ("bench.json", report_files.bench()),
        ("checks.json", report_files.checks()),
    ):
        (kind,) = (kind for kind in KINDS if kind.name == name)
        found = [
            read_content(write(tmp_path / name, content | {"schema_version": version}), kind)
            for version in kind.schemas
        ]
        assert len(found) == 2
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "text_of_it",
    [
        *("", "{", "[]", "null", "{}", '{"a": 1}', "<!doctype html>", "\x00"),
        *("[" * 100_000, '{"a":"\\ud800"}'),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text_of_it: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text_of_it)
    assert run(["report", str(path), "--out", str(tmp_path / "out")]) == 3


def test_a_file_that_is_too_large(jetson_bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100"):
        gather([jetson_bench], silent)


def test_damage_inside_a_run(measured_copy: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    (measured_copy / "bench.json").write_text("{")
    assert run(["report", str(measured_copy), *out]) == 3
    (measured_copy / "bench.json").unlink()
    verified = (measured_copy / "verify.json").read_text()
    (measured_copy / "verify.json").write_text(verified.replace("true", "false"))
    assert run(["report", str(measured_copy), *out]) == 8
    (measured_copy / "verify.json").write_text(verified)
    edit_manifest(measured_copy, lambda manifest: manifest["variant"].update(image_size=32))
    assert run(["report", str(measured_copy), *out]) == 3


def test_every_file_that_the_manifest_lists_is_compared_with_its_hash(
    measured_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = measured_copy / "engines" / "cpu-fp32.onnx"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    with pytest.raises(UnsafeError, match="changed"):
        gather([measured_copy], silent)
    assert run(["report", str(measured_copy)]) == 8
    assert "cpu-fp32.onnx was changed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["engines/cpu-fp32.onnx", "model.fp16.onnx", "verify.json"])
def test_a_file_that_is_gone_is_named(measured_copy: Path, name: str) -> None:
    (measured_copy / name).unlink()
    (source,) = gather([measured_copy], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert "swin-deploy export" in commands[f"{name}, which the manifest lists"]
    assert f"{name}, which the manifest lists" in render_html(
        make_report(ReportData(sources=(source,)))
    )
    assert ("and it agrees" in make_headline(source).verdict) == (name != "verify.json")


def test_depth_that_a_later_verify_took_away_is_missing(measured_copy: Path) -> None:
    content = report_files.checks()
    write(measured_copy / "checks.json", content)
    (source,) = gather([measured_copy], silent).sources
    assert "error along the depth" not in [missing.part for missing in source.missing]
    write(measured_copy / "checks.json", content | {"bisections": []})
    (source,) = gather([measured_copy], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert commands["error along the depth"] == f"swin-deploy verify {measured_copy} --bisect"


def test_what_is_no_run(tmp_path: Path) -> None:
    assert run(["report", str(tmp_path)]) == 3
    assert run(["report", str(tmp_path / "nothing")]) == 3
    assert run(["report", str(tmp_path / "nothing.json")]) == 3
    assert run(["report"]) == 2


@pytest.mark.parametrize("make", [report_files.bench, report_files.evaluation, report_files.checks,
                                  report_files.scaling, report_files.sensitivity])  # fmt: skip
def test_every_file_is_recognised(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    path = write(tmp_path / "x.json", make())
    kind = recognise(path)
    assert isinstance(read_content(path, kind), kind.content)


def test_accuracy_of_files_that_are_gone(measured_copy: Path) -> None:
    content = report_files.evaluation()
    manifest = json.loads((measured_copy / "manifest.json").read_text())
    present = manifest["stages"]["engine:cpu-fp32"]["outputs"]["engines/cpu-fp32.onnx"]
    content["artifacts"][0] |= {"name": "engine cpu-fp32", "sha256": [present]}
    content["artifacts"][1] |= {"sha256": ["0" * 64]}
    write(measured_copy / "evaluate.json", content)
    report = make_report(gather([measured_copy], silent))
    warnings = next(section for section in report.sections if section.name == "warnings")
    gone = [note for note in warnings.notes if "evaluate.json" in note]
    assert gone == ["engine int8 of evaluate.json is no file of this run as it is now"]
