"""``swin-deploy scaling``: linear is told from quadratic, by exact costs and by made-up ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, FileAccessError, InputError, VerificationError
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.cost.graph_facts import GraphCost, cost_graph
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.scaling import measure, run
from swin_deploy.measure.scaling import measure as graphs_module
from swin_deploy.measure.scaling.measure import Graphs
from swin_deploy.measure.scaling.report import NETWORKS, SIZES, Point, ScalingRequest, Turn
from swin_deploy.measure.scaling.run import fit_power_law
from swin_deploy.network.catalogue import Variant, find_variant
from swin_deploy.network.interface import Preprocessing
from swin_deploy.network.swin import SwinConfig
from swin_deploy.network.vit import VitConfig
from swin_deploy.report.console import show
from swin_deploy.report.measured_tables import scaling_summary
from swin_deploy.report.plots import plot_scaling

ONE_CHANNEL = Preprocessing(mean=(0.5,), std=(0.5,))
SWIN = Variant(
    config=SwinConfig(
        name="small_swin",
        patch_size=2,
        in_channels=1,
        embed_dim=16,
        depths=(2, 1),
        num_heads=(1, 2),
        window_size=4,
        num_classes=3,
    ),
    preprocessing=ONE_CHANNEL,
)
VIT = Variant(
    config=VitConfig(
        name="small_vit",
        patch_size=4,
        in_channels=1,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=3,
    ),
    preprocessing=ONE_CHANNEL,
)
SIDES = (16, 32, 64)


def request_of(out: Path, **changes: Any) -> ScalingRequest:
    settings = {"networks": (SWIN, VIT), "sizes": tuple((side, side) for side in SIDES)}
    return ScalingRequest(**settings | {"rounds": 2, "out": out} | changes)


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """Graphs that are made once."""
    return Graphs(tmp_path_factory.mktemp("graphs"), seed=0)


@pytest.fixture(scope="module")
def costs(graphs: Graphs) -> dict[str, list[GraphCost]]:
    """Network -> the cost of its graph at each of ``SIDES``."""
    found: dict[str, list[GraphCost]] = {}
    for point in request_of(Path()).points:
        found.setdefault(point.variant.name, []).append(cost_graph(graphs.path(point)))
    return found


def swin_flops(side: int) -> int:
    """By Liu et al. 2021, equation 2, in multiply-adds: 4 hw C^2 + 2 M^2 hw C; an MLP 8 hw C^2."""
    tokens, c, total = (side // 2) ** 2, 16, 0
    total += tokens * c * 2**2  # the patch embedding
    for stage in range(2):
        total += (2 - stage) * (4 * tokens * c**2 + 2 * 4**2 * tokens * c + 8 * tokens * c**2)
        if stage == 0:
            tokens, c = tokens // 4, 2 * c
            total += tokens * 2 * c * c  # the merge, from 4 C to 2 C
    return 2 * (total + 3 * c)


def vit_flops(side: int) -> int:
    """Equation 1, global attention: 4 hw C^2 + 2 (hw)^2 C; in the last block, of one query."""
    tokens, c = (side // 4) ** 2 + 1, 16
    embed = (tokens - 1) * c * 4**2
    block = 4 * tokens * c**2 + 2 * tokens**2 * c + 8 * tokens * c**2
    last = 3 * tokens * c**2 + 2 * tokens * c + c**2 + 8 * c**2
    return 2 * (embed + block + last + 3 * c)


def test_flops_are_those_of_the_papers(costs: dict[str, list[GraphCost]]) -> None:
    assert [cost.flops for cost in costs["small_swin"]] == [swin_flops(side) for side in SIDES]
    assert [cost.flops for cost in costs["small_vit"]] == [vit_flops(side) for side in SIDES]


@pytest.mark.parametrize("cost", ["flops", "activation_bytes"])
def test_swin_is_linear_and_a_vit_is_not(costs: dict[str, list[GraphCost]], cost: str) -> None:
    areas = [side**2 for side in SIDES]
    swin, vit = (
        fit_power_law(areas, [getattr(own, cost) for own in costs[name]])
        for name in ("small_swin", "small_vit")
    )
    assert swin.low is not None
    assert swin.high is not None
    assert 0.85 < swin.low <= swin.exponent <= swin.high < 1.15
    assert vit.exponent > 1.15
    assert vit.largest > vit.exponent  # which grows towards 2


def graph_file(folder: Path, rows: int | str = 2) -> Path:
    """Image (rows, 6) @ (6, 4), reshaped, half of it picked, added to a constant computed twice."""
    arrays = {
        "w": np.ones((6, 4), np.float32),
        "half": np.ones((1, 4), np.float32),
        "shape": np.array([1, -1], np.int64),
        "start": np.array([0], np.int64),
        "end": np.array([4], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["product"], name="product"),
        helper.make_node("Reshape", ["product", "shape"], ["flat"], name="reshape"),
        helper.make_node("Slice", ["flat", "start", "end", "axis"], ["part"], name="slice"),
        helper.make_node("Add", ["half", "half"], ["whole"], name="constant"),
        helper.make_node("Add", ["part", "whole"], ["sum"], name="add"),
        helper.make_node("Mul", ["sum", "sum"], ["out"], name="square"),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, 6]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    path = folder / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_bytes_are_counted_node_by_node(tmp_path: Path) -> None:
    cost = cost_graph(graph_file(tmp_path))
    assert cost.nodes == 5  # the sum of constants is none of them
    assert cost.flops == 2 * 2 * 6 * 4
    # Product 12 + 8 numbers, slice 4 + 4, sum 4 + 4, square 4 + 4: it reads one tensor.
    assert cost.activation_bytes == 4 * (20 + 8 + 8 + 8)
    assert cost.constant_bytes == 4 * 24 + 3 * 8 + 4 * 4


def test_a_dynamic_size_has_no_bytes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="product has a size that is dynamic"):
        cost_graph(graph_file(tmp_path, rows="batch"))


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
    with pytest.raises(FileAccessError, match="no report of this command"):
        run.measure_scaling(request_of(tmp_path), silent, silent)
    assert (tmp_path / "scaling.json").read_text() == '{"precious": 1}'


def test_a_graph_that_computes_something_else_has_no_cost(
    graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of another seed, of which every shape and operator is the same."""
    point = Point(variant=VIT.with_image_size((16, 16)), batch=1)

    def copy(model: object, config: object, batch: object, path: Path) -> None:
        path.write_bytes(graphs.path(point).read_bytes())

    monkeypatch.setattr(graphs_module, "export_graph", copy)
    with pytest.raises(VerificationError, match="small_vit 16x16 batch 1, graph"):
        Graphs(tmp_path, seed=1).path(point)


class Hungry:
    """A runner that touches so many bytes in every call."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> Hungry:
        return self

    def __exit__(self, *rest: object) -> None:
        pass

    def run(self, images: np.ndarray) -> None:
        np.ones(self.size, np.uint8)


MIB = 2**20


def take_and_give_back() -> Turn:
    """In a process of its own, as points are measured: a library may make malloc keep memory."""
    before = measure._resident("VmRSS")
    np.ones(256 * MIB, np.uint8)
    return measure._clock(Hungry(64 * MIB), SWIN.config, 1, before)


def test_memory_is_that_of_the_calls_alone(tmp_path: Path) -> None:
    """What loading took, and gave back, is not in it."""
    turn = run_in_child(take_and_give_back, tmp_path / "log", 120)
    assert 60 * MIB < turn.working_bytes < 128 * MIB
    assert turn.peak_bytes < 160 * MIB


def test_memory_is_null_where_the_kernel_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_CLEAR", tmp_path / "missing" / "clear_refs")
    turn = measure._clock(Hungry(1), SWIN.config, 1, 0)
    assert turn.working_bytes is None
    assert turn.peak_bytes is None
    assert turn.calls >= 1


@pytest.mark.skipif(not TARGETS["rtx"].installed, reason="needs tensorrt_rtx")
def test_what_the_compiler_makes_of_it(graphs: Graphs) -> None:
    point = Point(variant=SWIN.with_image_size((32, 32)), batch=1)
    compiled = graphs.compile(point)
    assert compiled.fused_attentions == sum(SWIN.config.depths)
    assert 0 < compiled.compiled_bytes < cost_graph(graphs.path(point)).activation_bytes


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


def test_the_eager_network_can_be_timed(tmp_path: Path) -> None:
    point = Point(variant=SWIN.with_image_size((16, 16)), batch=2)
    turn = measure.measure_eager(point, 0, 1, tmp_path / "log")
    assert turn.time_ms > 0
    assert turn.calls >= 1
