"""``swin-deploy sensitivity``: a damaged place is found, and it alone is left out of INT8."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir
import pytest

from sensitivities import DAMAGED, RECIPE, measure, request_of
from swin_deploy.cli import main as cli
from swin_deploy.core.files import read_json
from swin_deploy.data.samples import find_calibration
from swin_deploy.graph.int8.places import find_places
from swin_deploy.graph.int8.probe import Probe, list_places
from swin_deploy.measure.journal import Journal
from swin_deploy.measure.sensitivity import run as sensitivity_run
from swin_deploy.measure.sensitivity.measure import KeptMeasurements
from swin_deploy.measure.sensitivity.report import Baseline
from swin_deploy.measure.sensitivity.run import measure_sensitivity
from swin_deploy.measure.sensitivity.subject import Measured, open_run_graph
from swin_deploy.measure.workers.crew import Crew
from swin_deploy.network.interface import BatchRange


@pytest.fixture(scope="module")
def single(trained_once: Callable[..., Path]) -> Path:
    """A run of one image at a time, so that everything has a size. Tests must not change it."""
    return trained_once(batch=BatchRange(), targets=("rtx",))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are counted in a test of their own."""
    monkeypatch.setattr(
        "swin_deploy.measure.sensitivity.measure.why_not_compiled", lambda recipe: "a test"
    )


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold of what ``DAMAGED`` reads is 1000 times what calibration finds."""
    collect = sensitivity_run.collect_statistics

    def collected(graph: Path, *arguments: Any, **more: Any) -> dict[str, Any]:
        found = collect(graph, *arguments, **more)
        (gemm,) = (g for g in find_places(ir.load(graph).graph).gemms if g.name == DAMAGED)
        name = str(gemm.node.inputs[0].name)  # type: ignore[union-attr]
        statistics = found[name]

        class TooLarge:
            def threshold(self, method: str) -> float:
                return 1000 * statistics.threshold(method)  # type: ignore[arg-type]

        return found | {name: TooLarge()}

    monkeypatch.setattr(sensitivity_run, "collect_statistics", collected)


def names(report: dict[str, Any]) -> list[str]:
    return [row["name"] for row in report["places"]]


@pytest.mark.usefixtures("damage", "uncompiled")
def test_a_damaged_place_ranks_first_and_is_left_out_alone(
    trained_run: Path, few_digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(trained_run, few_digits, tmp_path, max_drop=3.0))
    assert names(report)[0] == DAMAGED
    first, second = report["places"][:2]
    assert first["mean_sqnr_db"] < second["mean_sqnr_db"] - 20
    assert report["all"]["drop_points"] > 20
    assert report["mixed"]["keep"] == report["mixed"]["left"] == [DAMAGED]
    assert report["mixed"]["drop_points"] <= 3.0
    assert report["mixed"]["quantised"] == len(report["places"]) - 1
    low, high = report["mixed"]["interval"]
    assert low < report["mixed"]["accuracy"] < high
    assert len(report["places"]) == len(list_places(trained_run / "model.onnx", RECIPE, 16))


@pytest.mark.usefixtures("damage", "uncompiled")
def test_the_same_without_labels(trained_run: Path, few_digits: Path, tmp_path: Path) -> None:
    goal = {"labelled": None, "images": few_digits / "held", "min_sqnr_db": 15.0}
    report = measure(request_of(trained_run, few_digits, tmp_path, **goal))
    assert report["all"]["sqnr_db"] < 15
    assert report["mixed"]["keep"] == [DAMAGED]
    assert report["mixed"]["sqnr_db"] >= 15
    assert report["fp32"]["right"] is None
    assert report["all"]["drop_points"] is None


@pytest.mark.usefixtures("uncompiled")
def test_the_trained_network_needs_no_place_in_fp16(
    trained_run: Path, few_digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(trained_run, few_digits, tmp_path, max_drop=3.0))
    assert report["mixed"]["keep"] == []
    assert report["fp32"]["accuracy"] > 0.95
    assert report["all"]["sqnr_db"] > 20


@pytest.mark.usefixtures("uncompiled")
def test_a_goal_that_no_int8_meets_leaves_every_place(
    trained_run: Path, few_digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(trained_run, few_digits, tmp_path, min_sqnr_db=200.0))
    assert report["mixed"]["quantised"] == 0
    assert sorted(report["mixed"]["left"]) == sorted(names(report))
    assert report["mixed"]["sqnr_db"] is None
    assert any("stay on FP16" in note for note in report["notes"])


@pytest.mark.usefixtures("uncompiled")
def test_another_goal_measures_only_what_is_new(
    trained_run: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(trained_run, few_digits, tmp_path)
    first = measure(request)
    monkeypatch.setattr(Probe, "measure", None)
    again = measure(replace(request, max_drop=50.0))
    assert again["places"] == first["places"]
    assert again["mixed"]["keep"] == []
    notes: list[str] = []
    with pytest.raises(TypeError):  # another method: everything is measured again
        measure_sensitivity(replace(request, method="minmax"), print, notes.append)
    assert any("is of another method: measuring again" in note for note in notes)


@pytest.mark.fault(39)
@pytest.mark.usefixtures("uncompiled")
def test_a_measurement_that_does_not_fit_is_named(
    trained_run: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sensitivity", str(trained_run), "--calibration", str(few_digits / "calibration")]
    command += ["--out", str(tmp_path / "out.json")]
    assert cli.run(command) == 0
    report = read_json(tmp_path / "out.json") or {}
    report["measured"]["all"]["agreeing"] = "most"
    (tmp_path / "out.json").write_text(json.dumps(report))
    capsys.readouterr()
    assert cli.run(command) == 3
    words = 'out.json: measured.all.agreeing is "most", not an integer; try: move it away'
    assert words in capsys.readouterr().err


def test_a_journal_gives_what_was_measured(tmp_path: Path) -> None:
    found = Baseline(images=3, right=None, left_out=("a.png cannot be read",))
    for again in (lambda: found, None):
        journal = Journal(tmp_path / "x.json", {}, lambda text: None)
        assert journal.get("fp32", Baseline, cast(Any, again)) == found


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from swin_deploy.measure import journal
    from swin_deploy.cli import main as cli

    write, written = journal.write_json, []

    def killed(path, value):
        write(path, value)
        written.append(path)
        if len(written) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    journal.write_json = killed
    cli.run(sys.argv[2:])
"""


@pytest.mark.fault(39)
@pytest.mark.usefixtures("uncompiled")
def test_a_killed_run_goes_on_and_gives_the_same(
    trained_run: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--labelled", str(few_digits / "held"), "--max-drop", "0"]
    command = [
        "sensitivity",
        str(trained_run),
        "--calibration",
        str(few_digits / "calibration"),
        *settings,
    ]
    out, whole = tmp_path / "killed.json", tmp_path / "whole.json"
    for written in (1, 9):
        code = textwrap.dedent(KILLED)
        arguments = [sys.executable, "-c", code, str(written), *command, "--out", str(out)]
        done = subprocess.run(arguments, capture_output=True, check=False, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
    partial = read_json(tmp_path / ".killed.json.partial")
    assert partial is not None
    assert len(partial["measured"]) == 10
    assert cli.run([*command, "--out", str(out)]) == 0
    assert "10 measurements of an earlier run are used again" in capsys.readouterr().err
    assert cli.run([*command, "--out", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert "at most 0 points of top-1 lost: " in capsys.readouterr().out
    assert not (tmp_path / ".killed.json.partial").exists()


def test_a_pair_of_which_one_is_kept_is_left_out_whole(
    single: Path, few_digits: Path, tmp_path: Path
) -> None:
    """Of one image at a time, whose MLPs are quantised: keeping all but one fc2 leaves nothing."""
    places = list_places(single / "model.onnx", RECIPE, 1)
    second = next(name for name, kind in places.items() if kind == "fc2")
    lab = KeptMeasurements(
        measured=Measured(
            open_run_graph(single, tmp_path), find_calibration(few_digits / "calibration")
        ),
        recipe=RECIPE,
        places=places,
        thresholds=dict,
        journal=Journal(tmp_path / "x.json", {}, lambda text: None),
        crew=Crew(wanted=None, ray=None, threads=1, on_gpu=False, note=print),
        progress=lambda title: None,
    )
    kept = [name for name in places if name != second]
    assert lab.quantised_without(kept) == set()
    assert lab.quantised_without([second]) == set(places) - {second, second[:-1] + "1"}


@pytest.mark.usefixtures("damage")
def test_kernels_and_bytes_of_both_placements(
    single: Path, few_digits: Path, tmp_path: Path
) -> None:
    """The weights of the merge that stays in FP16, 4c x 2c, have two bytes instead of one."""
    report = measure(request_of(single, few_digits, tmp_path, labelled=None, min_sqnr_db=15.0))
    assert report["mixed"]["keep"] == [DAMAGED]
    whole, mixed = report["mixed"]["cost"]["all"], report["mixed"]["cost"]["mixed"]
    assert whole["compiler"].startswith("tensorrt_rtx")
    assert min(whole["kernels"], mixed["kernels"]) > 0
    assert whole["activation_bytes"] > 0
    assert mixed["weight_bytes"] - whole["weight_bytes"] > 0.9 * 64 * 32
