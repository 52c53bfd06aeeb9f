"""The exact costs that ``swin-deploy scaling`` counts: those of the papers, node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from small_networks import SIDES, SWIN, VIT, request_of
from swin_deploy.core.errors import InputError, VerificationError
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.cost.graph_facts import GraphCost, cost_graph
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.scaling import measure
from swin_deploy.measure.scaling import measure as graphs_module
from swin_deploy.measure.scaling.measure import Graphs
from swin_deploy.measure.scaling.report import Point, Turn
from swin_deploy.measure.scaling.run import fit_power_law


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
    with pytest.raises(InputError, match="product"):
        cost_graph(graph_file(tmp_path, rows="batch"))


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


def test_the_eager_network_can_be_timed(tmp_path: Path) -> None:
    point = Point(variant=SWIN.with_image_size((16, 16)), batch=2)
    turn = measure.measure_eager(point, 0, 1, tmp_path / "log")
    assert turn.time_ms > 0
    assert turn.calls >= 1
