"""``swin-deploy sensitivity`` as a command: tables, plots, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from manifests import edit_manifest
from sensitivities import measure, request_of
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import FileAccessError
from swin_deploy.core.files import read_json
from swin_deploy.report.plots import plot_sensitivity

# One process makes the fixtures for all of these files.
pytestmark = pytest.mark.xdist_group("test_sensitivity")


def test_the_tables_the_plot_and_the_object(
    trained_run: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg, png = tmp_path / "places.svg", tmp_path / "places.png"
    command = ["sensitivity", str(trained_run), "--calibration", str(few_digits / "calibration")]
    command += ["--count", "20", "--out", str(tmp_path / "report.json")]
    assert cli.run([*command, "--plot", str(svg)]) == 0
    text = capsys.readouterr()
    assert "measured on the images of the calibration, which flatters" in text.err
    command += ["--int8-also", "head", "--int8-also", "embed"]
    assert cli.run([*command, "--plot", str(png), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"embed", "head"} <= {row["kind"] for row in report["places"]}
    kept = read_json(tmp_path / "report.json")
    assert kept is not None
    assert report.items() <= kept.items()
    plot_sensitivity(report, svg)
    drawn = svg.read_text()
    for row in report["places"]:
        assert (row["name"] in text.out) == (row["kind"] not in ("embed", "head"))
        assert f">{row['name']}<" in drawn
        assert f">{row['mean_sqnr_db']:.1f}<" in drawn
    assert "(dB)" in drawn
    with Image.open(png) as image:
        assert min(image.size) > 400
    again = svg.read_bytes()
    plot_sensitivity(report, svg)
    assert svg.read_bytes() == again


def run_command(run: Path, digits: Path, *more: str | Path) -> int:
    words = ["sensitivity", run, "--calibration", digits / "calibration", *more]
    return cli.run([str(word) for word in words])


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        (["--max-drop", "1"], 2, "--max-drop is about top-1, which takes labels"),
        (["--images", "x", "--labelled", "y"], 2, "both name images"),
        (["--labelled", "x", "--max-drop", "1", "--min-sqnr", "9"], 2, "are two goals"),
        (["--labelled", "x", "--max-drop", "101"], 2, "not from 0 to 100"),
        (["--sorted-folders"], 2, "about labels"),
        (["--min-sqnr", "nan"], 2, "no number that is finite"),
        (["--plot", "x.pdf"], 2, "neither of .svg nor .png"),
        (["--images", "nowhere"], 3, "nowhere does not exist"),
        (["--count", "0"], 2, "calibration on 0 images"),
        (["--workers", "0"], 2, "workers = 0 is not from 1 to 1024"),
        (["--threads", "0"], 2, "threads = 0 is not from 1 to 1024"),
    ],
)
def test_requests_that_mean_nothing(
    trained_run: Path,
    few_digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    reason: str,
) -> None:
    assert run_command(trained_run, few_digits, *more, "--out", tmp_path / "x.json") == code
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_labels_that_are_not_the_classes_exit_with_3(
    trained_run: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(few_digits / "held", tmp_path / "held")
    (tmp_path / "held" / "3").rename(tmp_path / "held" / "three")
    code = run_command(
        trained_run, few_digits, "--labelled", tmp_path / "held", "--out", tmp_path / "x.json"
    )
    assert code == 3
    error = capsys.readouterr().err
    assert "'three' is no number from 0 to 9" in error
    assert "--images" in error
    assert not (tmp_path / "x.json").exists()


def test_a_run_without_logits_or_with_another_graph_is_refused(
    trained_run: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes() + b" ")
    assert run_command(run, few_digits) == 8
    assert "was changed" in capsys.readouterr().err
    edit_manifest(run, lambda manifest: manifest.update(outputs="stages"))
    assert run_command(run, few_digits) == 2
    assert "gives stages" in capsys.readouterr().err
    edit_manifest(run, lambda manifest: manifest["preprocessing"].update(stdd=[1]))
    assert run_command(run, few_digits) == 3
    assert "preprocessing.stdd is [1], not a key of this version" in capsys.readouterr().err


def test_a_file_of_another_kind_is_not_overwritten(
    trained_run: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    out.write_text('{"mine": 1}')
    with pytest.raises(FileAccessError, match=r"report\.json"):
        measure(request_of(trained_run, few_digits, tmp_path))
    assert out.read_text() == '{"mine": 1}'


def test_a_missing_plot_library_is_named_before_anything_is_measured(
    trained_run: Path,
    few_digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run_command(trained_run, few_digits, "--plot", tmp_path / "x.svg") == 4
    assert "pip install matplotlib" in capsys.readouterr().err
