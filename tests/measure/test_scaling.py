"""``swin-deploy scaling``: exponents, turns, and the command from end to end."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from small_networks import request_of
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, FileAccessError
from swin_deploy.engine.cost.graph_facts import GraphCost
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.scaling import run
from swin_deploy.measure.scaling.measure import Graphs
from swin_deploy.measure.scaling.report import NETWORKS, SIZES, Point, ScalingRequest, Turn
from swin_deploy.measure.scaling.run import fit_power_law
from swin_deploy.network.catalogue import find_variant
from swin_deploy.report.console import show
from swin_deploy.report.measured_tables import scaling_summary
from swin_deploy.report.plots import plot_scaling


def silent(text: str) -> None:
    pass


def test_a_power_law_gives_its_exponent_back() -> None:
    areas = [side**2 for side in (224, 448, 672, 896)]
    fit = fit_power_law(areas[::-1], [3e-4 * area**1.37 for area in areas[::-1]])
    assert fit.points == 4
    for value in (fit.exponent, fit.low, fit.high, fit.largest):
        assert value == pytest.approx(1.37, abs=1e-9)


def test_noise_widens_the_interval() -> None:
    areas = np.array([side**2 for side in range(224, 897, 112)], dtype=float)
    noise = np.random.default_rng(0).standard_normal(len(areas))
    widths = []
    for strength in (0.01, 0.1):
        fit = fit_power_law(list(areas), list(areas * np.exp(strength * noise)))
        assert fit.low is not None
        assert fit.high is not None
        assert fit.low < 1 < fit.high
        widths.append(fit.high - fit.low)
    assert widths[1] == pytest.approx(10 * widths[0])


@pytest.mark.parametrize(("share", "quadratic"), [(0.0, False), (0.02, False), (1.0, True)])
def test_a_damaged_curve_is_told_from_a_linear_one(share: float, quadratic: bool) -> None:
    """``share`` is that of a square of the area in the cost at the largest size."""
    areas = [height * width for height, width in SIZES]
    costs = [(1 - share) * a / areas[-1] + share * (a / areas[-1]) ** 2 for a in areas]
    fit = fit_power_law(areas, costs)
    assert fit.low is not None
    assert (fit.low > 1.15) == quadratic
    assert (abs(fit.exponent - 1) < 0.15) != quadratic


def test_the_interval_is_that_of_the_textbook() -> None:
    """A regression worked out by hand; 4.302653 is Student's t of 2 degrees of freedom."""
    x, y = [math.e**k for k in (1, 2, 3, 4)], [math.e**k for k in (1, 3, 2, 4)]
    fit = fit_power_law(x, y)
    assert fit.exponent == pytest.approx(0.8)
    # Residuals -.3, .9, -.9, .3: 1.8 over 2, over the spread 5 of x, makes 0.4243 of error.
    assert fit.high == pytest.approx(0.8 + 4.302653 * 0.18**0.5, rel=1e-6)


def test_two_points_have_a_slope_and_no_interval() -> None:
    fit = fit_power_law([10, 100], [5, 500])
    assert (fit.exponent, fit.low, fit.high) == (pytest.approx(2), None, None)


@pytest.mark.parametrize(
    ("sizes", "costs"),
    [([1], [1]), ([1, 1], [1, 2]), ([1, 2], [1, 0]), ([1, 2, 3], [1, 2]), ([1, 2], [1, math.nan])],
)
def test_what_has_no_slope_is_refused(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ConfigError):
        fit_power_law(sizes, costs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "224"], "two or more of different areas"),
        (["--sizes", "224x448,448x224"], "two or more of different areas"),
        (["--sizes", "224,300"], "swin_t: image height 300 does not work"),
        (["--networks", "vit_t_16", "--sizes", "224,300"], "not a multiple of the patch size 16"),
        (["--networks", "swim_t"], "unknown variant 'swim_t'"),
        (["--sizes", "big"], "'big' is neither a size like 224"),
        (["--batches", "0"], "is not a range from 1"),
        (["--batches", "many"], "'many' is not a list like 1,2,4"),
        (["--rounds", "1"], "gives no spread"),
        (["--threads", "0"], "threads = 0 is not from 1 to 1024"),
        (["--seed", "-1"], "is not from 0"),
        (["--plot", "x.pdf"], "neither of .svg nor .png"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["scaling", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(TARGETS["rtx"]), "installed", property(lambda self: False))
    assert cli.run(["scaling", "--compiled", "--out", str(tmp_path / "out")]) == 4
    assert "tensorrt_rtx, which is not installed" in capsys.readouterr().err


def test_every_default_size_is_tiled_by_every_default_network() -> None:
    request = ScalingRequest(networks=tuple(map(find_variant, NETWORKS)))
    assert len(request.points) == len(NETWORKS) * len(SIZES)
    assert len({point.name for point in request.points}) == len(request.points)


def fake(
    monkeypatch: pytest.MonkeyPatch, time_ms: Callable[[Point, int], float]
) -> list[tuple[str, int]]:
    """Replace what is exported and run by figures; returns the turns, in their order."""
    turns: list[tuple[str, int]] = []

    def turn(point: Point, *rest: object) -> Turn:
        number = [name for name, _ in turns].count(point.name)
        figure = time_ms(point, number)
        turns.append((point.name, number))
        return Turn(time_ms=figure, cpu_ms=figure, calls=1, peak_bytes=None, working_bytes=None)

    def describe(self: Graphs, point: Point) -> GraphCost:
        return GraphCost(
            nodes=1, flops=point.area, activation_bytes=point.area**2, constant_bytes=0
        )

    monkeypatch.setattr(run, "measure_eager", turn)
    monkeypatch.setattr(Graphs, "describe", describe)
    return turns


def test_points_take_turns_and_exponents_are_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = fake(monkeypatch, lambda point, turn: point.batch * point.area**1.5 * (1 + turn))
    request = request_of(tmp_path, runtime="eager", batches=(1, 2, 4))
    notes: list[str] = []
    report = run.measure_scaling(request, silent, notes.append)
    names = [point.name for point in request.points]
    assert turns == [(name, turn) for turn in range(2) for name in names]
    assert json.loads((tmp_path / "scaling.json").read_text()).items() >= report.items()
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.json", ".scaling.json.lock"}
    expected = {"time_ms": 1.5, "cpu_ms": 1.5, "flops": 1.0, "activation_bytes": 2.0}
    area = [fit for fit in report["fits"] if fit["axis"] == "area"]
    assert len(area) == 2 * 3 * 4
    for fit in area:
        assert fit["exponent"] == pytest.approx(expected[fit["cost"]])
    batch = [fit for fit in report["fits"] if fit["axis"] == "batch" and fit["cost"] == "time_ms"]
    assert [fit["exponent"] for fit in batch] == pytest.approx([1.0] * 2 * 3)
    # The second turn takes twice as long: a third of their mean is their deviation.
    assert sum("vary by 33%" in note for note in notes) == len(names)
    assert any("peak memory is not known" in note for note in notes)


@pytest.mark.fault(39)
def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(point: Point, turn: int) -> float:
        if (point.variant.name, turn) == ("small_vit", 1):
            raise KeyboardInterrupt
        return float(point.area)

    before = fake(monkeypatch, dies)
    request = request_of(tmp_path, runtime="eager")
    with pytest.raises(KeyboardInterrupt):
        run.measure_scaling(request, silent, silent)
    assert [path.name for path in tmp_path.iterdir()] == [".scaling.json.partial"]
    after, notes = fake(monkeypatch, lambda point, turn: float(point.area)), list[str]()
    report = run.measure_scaling(request, silent, notes.append)
    assert len(before) == 9
    assert len(after) == 3
    assert "measurements of an earlier run are used again" in notes[0]
    times = [fit["exponent"] for fit in report["fits"] if fit["cost"] == "time_ms"]
    assert times == pytest.approx([1.0, 1.0])
    again = fake(monkeypatch, lambda point, turn: float(point.area))
    run.measure_scaling(request, silent, silent)  # a finished report's times are not used again
    assert len(again) == 12


def test_a_report_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scaling.json").write_text('{"precious": 1}')
    with pytest.raises(FileAccessError, match=r"scaling\.json"):
        run.measure_scaling(request_of(tmp_path), silent, silent)
    assert (tmp_path / "scaling.json").read_text() == '{"precious": 1}'


def test_the_command_from_end_to_end(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, png = tmp_path / "out", tmp_path / "curves.png"
    command = ["scaling", "--config", config, "--sizes", "64,32", "--rounds", "2"]
    assert cli.run([*command, "--out", str(out), "--plot", str(png), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads((out / "scaling.json").read_text()).items() >= report.items()
    assert [row["image_size"] for row in report["points"]] == [[32, 32], [64, 64]]
    assert all(row["time_low_ms"] > 0 for row in report["points"])
    assert {path.name for path in out.iterdir()} == {"scaling.json", ".scaling.json.lock"}
    assert png.read_bytes().startswith(b"\x89PNG")
    flops = next(fit for fit in report["fits"] if fit["cost"] == "flops")
    assert flops["exponent"] == pytest.approx(1, abs=0.02)
    assert flops["low"] is None

    show(scaling_summary(report, out / "scaling.json"))
    printed = capsys.readouterr().out
    head, *rows = [re.split(r"  +", line.strip()) for line in printed.splitlines()[3:6]]
    assert head[0] == "network"
    assert [len(row) for row in rows] == [len(head)] * 2  # a figure for every column
    assert "node by node" in printed
    svg = tmp_path / "curves.svg"
    plot_scaling(report, svg)
    first = svg.read_bytes()
    plot_scaling(report, svg)
    assert svg.read_bytes() == first
    for text in ("tiny: 1.00", "slope 1", "slope 2", "GFLOP", "32x32"):
        assert text in first.decode()
