"""What compilers make of quantised graphs: the facts that the recipes rest on, without a GPU."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from conftest import POCKET
from fusion.rows import Row
from kernel_records import FOLDER
from quantisation.engines import figures_of, list_kernels, made_up_ranges, write_full, write_half
from quantisation.placements import MOST_BYTES, MOST_KERNELS, NETWORKS, compile_pair
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.cost.kernels import products_not_in_int8
from swin_deploy.engine.cost.listing import Listing
from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.engine.targets import TARGETS
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.int8.places import RECIPES, find_places
from swin_deploy.graph.int8.quantize import Int8Graph, quantize_graph
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model

SWIN_T = Row("swin_t", "1", ())
# Of two that differ in the size of the image alone, swin_b and swin_b_384, the smaller one.
LARGE = ("swin_b", "swinv2_s_w16")  # tried at night
OTHERS = [
    row for row in NETWORKS if row.batch == "1" and row != SWIN_T and row.network != "swin_b_384"
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Swin-T in FP32, as it is exported for a GPU."""
    path = tmp_path_factory.mktemp("swin_t") / "model.onnx"
    write_full(SWIN_T, path)
    return path


@pytest.fixture(scope="module")
def quantised(full: Path) -> tuple[Int8Graph, Listing]:
    """What of it an export quantises, with made-up ranges, and the kernels of that."""
    ranges, made = made_up_ranges(ir.load(full).graph), []

    def write(path: Path) -> None:
        made.append(quantize_graph(full, path, ranges, RECIPES["tensorrt"], 1))

    listing = list_kernels(write, SWIN_T.batches)
    return made[0], listing


def recorded(key: str) -> int:
    """A sum of the FP16 engine's record."""
    text = (FOLDER / "swin_t-b1.txt").read_text()
    return int(re.findall(rf"^{key}: (\d+)", text, re.MULTILINE)[0])


def test_int8_moves_fewer_bytes_in_hardly_more_kernels(
    quantised: tuple[Int8Graph, Listing],
) -> None:
    found = figures_of(quantised[1])
    half = recorded("activation bytes") + recorded("weight bytes")
    assert found.kernels <= MOST_KERNELS * recorded("kernels")
    assert found.fused == recorded("fused attentions") == 12
    assert found.moved_bytes <= MOST_BYTES["swin_t"] * half


def test_every_quantised_product_is_multiplied_in_int8(
    quantised: tuple[Int8Graph, Listing],
) -> None:
    graph, listing = quantised
    assert len(graph.gemms) == 12 * 2 + 3 + 2 * 8  # qkv and proj, merges, and eight MLPs
    assert products_not_in_int8(listing, graph.gemms.values()) == ()
    assert len(graph.attentions) == 12
    for kernel in listing.kernels:
        if kernel.fused_attention:
            assert {tensor.dtype for tensor in kernel.inputs} == {"Int8"}


def test_no_weight_is_dequantised_at_run_time(quantised: tuple[Int8Graph, Listing]) -> None:
    graph, listing = quantised
    readers = [k for k in listing.kernels if any(t.dtype == "Int8" for t in k.constants)]
    assert len(readers) == len(graph.gemms)
    for kernel in readers:
        assert kernel.matrix
        assert [tensor.dtype for tensor in kernel.inputs] == ["Int8"], kernel.name


def test_the_checks_find_what_is_not_int8(full: Path, quantised: tuple[Int8Graph, Listing]) -> None:
    half = list_kernels(lambda path: write_half(full, path), SWIN_T.batches)
    assert figures_of(half).kernels == recorded("kernels")
    gemms = quantised[0].gemms
    assert set(products_not_in_int8(half, gemms.values())) == set(gemms.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtx-30", "rtx-40", "rtx-50"])
def test_every_series_with_int8_compiles_it_as_all_of_them_do(
    name: str, full: Path, quantised: tuple[Int8Graph, Listing], tmp_path: Path
) -> None:
    graph = tmp_path / "model.int8.onnx"
    quantize_graph(full, graph, made_up_ranges(ir.load(full).graph), RECIPES["tensorrt"], 1)
    engine = build_engine(
        *(TARGETS[name], graph, tmp_path / "x.plan", SWIN_T.batches, tmp_path / "log")
    )
    assert (engine.kernels, engine.fused_attentions) == (len(quantised[1].kernels), 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=str(row), marks=pytest.mark.nightly if row.network in LARGE else ())
        for row in OTHERS
    ],
)
def test_other_networks_are_within_their_bounds(row: Row) -> None:
    assert compile_pair(row).problems == []


@pytest.mark.parametrize("form", ["packed", "slabs"])
def test_onnxruntime_multiplies_in_integers(form: FormName, tmp_path: Path) -> None:
    source, final = tmp_path / "model.onnx", tmp_path / "model.int8.cpu.onnx"
    export_graph(freeze(build_model(POCKET.config), form), POCKET.config, BatchRange(), source)
    graph = ir.load(source).graph
    kinds = Counter(gemm.kind for gemm in find_places(graph).gemms)
    quantize_graph(source, final, made_up_ranges(graph), RECIPES["onnxruntime"], 1)
    found = operators(final, tmp_path)
    products = kinds["qkv"] + kinds["proj"] + kinds["fc1"] + kinds["fc2"] + kinds["merge"]
    assert found["QGemm"] + found["MatMulIntegerToFloat"] == products
    assert found["DequantizeLinear"] == 0
    model = onnx.load(final)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[-1].endswith(".weight.zero"):
            del node.input[-1]
    onnx.save(model, final)
    assert operators(final, tmp_path)["QGemm"] == 0  # the zero points are what it asks for


def operators(graph: Path, folder: Path) -> Counter[str]:
    """How often each operator is in a graph as ONNX Runtime runs it."""
    options = session_options(None)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    open_session(graph, options)
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_integer_products_are_exact_on_any_processor(tmp_path: Path) -> None:
    """Large ones of uint8 with int8, whose sums saturate where the processor has no VNNI."""
    rng = np.random.default_rng(0)
    image = rng.integers(200, 256, (4, 64))
    weight = rng.integers(-127, 128, (64, 8)).astype(np.int8)
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[4, 64] x, int8[64, 8] w) => (float[4, 8] y)
          <float s = {1.0}, uint8 z = {0}, int8 zero = {0}> {
            q = QuantizeLinear(x, s, z)
            image = DequantizeLinear(q, s, z)
            weight = DequantizeLinear(w, s, zero)
            y = MatMul(image, weight)
        }"""
    model = onnx.parser.parse_model(text)
    del model.graph.input[1]  # the weight is a constant
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "x.onnx")
    session = open_session(tmp_path / "x.onnx", session_options(None))
    (found,) = session.run(None, {"x": image.astype(np.float32)})
    np.testing.assert_array_equal(found, image @ weight.astype(np.int64))
