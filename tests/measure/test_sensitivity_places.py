"""The places of INT8: which there are, how one is measured, and the search for the fewest."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil, log2
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from conftest import TRAINED
from sensitivities import DAMAGED, RECIPE
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.records import decode
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.int8.places import choose_places, find_places
from swin_deploy.graph.int8.probe import Effect, compare_logits, list_places, run_logits
from swin_deploy.graph.int8.quantize import quantize_graph, tensors_to_calibrate
from swin_deploy.measure.sensitivity.measure import effect_of, effect_row, find_fewest
from swin_deploy.measure.sensitivity.report import EffectRow
from swin_deploy.network.judge import mean_sqnr_db, sqnr_db, wilson_interval

# One process makes the fixtures for all of these files.
pytestmark = pytest.mark.xdist_group("test_sensitivity")


def test_nothing_is_left_out_where_all_is_good() -> None:
    assert find_fewest(["a", "b", "c"], lambda kept: True) == []


@pytest.mark.parametrize("bad", [(), ("a",), ("d",), ("b", "h"), tuple("abcdefgh")])
def test_the_search_finds_what_is_bad_wherever_it_ranks(bad: tuple[str, ...]) -> None:
    tried: list[tuple[str, ...]] = []

    def passes(kept: tuple[str, ...]) -> bool:
        tried.append(kept)
        return set(bad) <= set(kept)

    assert find_fewest("abcdefgh", passes) == list(bad)
    assert len(tried) <= 1 + ceil(log2(8)) + 8


@pytest.mark.parametrize("seed", range(20))
def test_no_place_of_the_answer_can_be_put_back(seed: int) -> None:
    """Noises that add up, against a limit: keeping more never makes it worse."""
    generator = random.Random(seed)
    noise = {f"{index}": generator.random() for index in range(12)}
    limit = generator.random() * sum(noise.values())
    ranking = sorted(noise, key=lambda name: -noise[name] * generator.uniform(0.5, 2))

    def passes(kept: tuple[str, ...]) -> bool:
        return sum(value for name, value in noise.items() if name not in kept) <= limit

    kept = find_fewest(ranking, passes)
    assert passes(tuple(kept))
    assert not any(passes(tuple(n for n in kept if n != name)) for name in kept)
    assert kept == [name for name in ranking if name in kept]


def test_only_some_places_of_the_recipe(trained_run: Path) -> None:
    places = find_places(ir.load(trained_run / "model.onnx").graph)
    whole = choose_places(places, RECIPE, 16)
    one = choose_places(places, RECIPE, 16, only=[DAMAGED])
    assert one.names == (DAMAGED,)
    attention = choose_places(places, RECIPE, 16, only=["layers.0.blocks.0.attn"])
    assert attention.names == ("layers.0.blocks.0.attn",)
    assert choose_places(places, RECIPE, 16, only=["*"]) == whole
    with pytest.raises(ConfigError, match="'head'"):
        choose_places(places, RECIPE, 16, only=["head"])


@pytest.mark.parametrize("batch", [1, 16])
def test_keeping_a_place_quantises_no_other(trained_run: Path, batch: int) -> None:
    """With a budget of MLPs that is spent, the one that is kept frees no room for another."""
    places = find_places(ir.load(trained_run / "model.onnx").graph)
    whole = set(choose_places(places, RECIPE, batch).names)
    mlps = {name for name in whole if ".mlp." in name}
    if batch == 1:
        assert mlps
    for name in whole:
        rest = set(choose_places(places, RECIPE, batch, keep=[name]).names)
        pair = {n for n in mlps if name in mlps and n.rpartition(".")[0] == name.rpartition(".")[0]}
        assert rest == whole - {name} - pair


def test_places_are_listed_as_they_run(trained_run: Path) -> None:
    listed = list_places(trained_run / "model.onnx", RECIPE, 16)
    placement = choose_places(find_places(ir.load(trained_run / "model.onnx").graph), RECIPE, 16)
    assert set(listed) == set(placement.names)
    block = [name for name in listed if name.startswith("layers.0.blocks.0.")]
    assert block[:3] == [f"layers.0.blocks.0.attn{part}" for part in (".qkv", "", ".proj")]
    assert [listed[name] for name in block[:3]] == ["qkv", "attention", "proj"]
    assert list(listed).index(DAMAGED) > list(listed).index("layers.0.blocks.1.attn.proj")


def test_an_effect_is_that_of_the_definition() -> None:
    reference = np.array([[3.0, 4.0], [5.0, 0.0]])
    logits = np.array([[4.0, 3.0], [5.0, 0.0]])
    effect = compare_logits(reference, logits, np.array([0, 0]))
    assert effect.mean_sqnr_db == pytest.approx(10 * np.log10(25 / 1))
    assert effect.sqnr_db == pytest.approx(10 * np.log10(25 / 2))
    assert (effect.agreeing, effect.right) == (1, 2)
    equal = compare_logits(reference, reference, None)
    assert equal == Effect(np.inf, np.inf, 2, None)
    assert effect_row(equal).sqnr_db is None
    for one in (effect, equal):
        assert effect_of(decode(EffectRow, asdict(effect_row(one)), "x")) == one
    assert mean_sqnr_db(reference, logits * np.nan) == -np.inf
    assert mean_sqnr_db(reference * np.nan, logits) == -np.inf
    with pytest.raises(InputError, match="are zero"):
        compare_logits(np.zeros_like(logits), logits, None)


def test_the_interval_is_wilsons() -> None:
    """Figures of Newcombe (1998), table I, method 3: 81 of 263 and 15 of 148."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20)[0] == pytest.approx(0, abs=1e-12)


def test_products_are_those_of_the_rounded_numbers(tmp_path: Path) -> None:
    """Weights in steps of 1/64, inputs in steps of 1: (2 * 127 - 3 * 33) / 64, without error."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[1, 2] image) => (float[1, 1] logits) <float[2, 1] w = {1.984375, 0.51}> {
        logits = MatMul(image, w)
    }"""
    model = ir.from_onnx_text(text)
    model.graph[0].name = "layers.0.enter.reduction/MatMul"
    ir.save(model, tmp_path / "one.onnx")
    plain = replace(RECIPE, surrounding="fp32")
    quantize_graph(tmp_path / "one.onnx", tmp_path / "q.onnx", {"image": 127.0}, plain, 1)
    image = np.array([[2.4, -3.4]], dtype=np.float32)
    assert run_logits(tmp_path / "q.onnx", [image]).tolist() == [[155 / 64]]


def test_simulated_int8_is_the_int8_of_the_cpu_but_for_rounding(
    trained_run: Path, tmp_path: Path, noise: Callable[..., np.ndarray]
) -> None:
    tensors = tensors_to_calibrate(trained_run / "model.onnx", RECIPE, 16)
    plain = replace(RECIPE, surrounding="fp32")
    path = tmp_path / "q.onnx"
    quantize_graph(trained_run / "model.onnx", path, dict.fromkeys(tensors, 4.0), plain, 16)
    images = noise(TRAINED, 4)
    with OnnxRuntimeRunner(path) as runner:
        integers = runner.run(images)["logits"]
    whole = run_logits(trained_run / "model.onnx", [images])
    simulated = run_logits(path, [images])
    assert sqnr_db(integers, simulated) > sqnr_db(whole, simulated) + 10


def test_outputs_that_are_no_logits_are_refused(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[1, 2] image) => (float[1, 2] {name}) {{ {name} = Log(image) }}"""
    for name, value, reason in (("stage1", 1, "gives stage1"), ("logits", -1, "not finite")):
        ir.save(ir.from_onnx_text(text.format(name=name)), tmp_path / "g.onnx")
        with pytest.raises(InputError, match=reason):
            run_logits(tmp_path / "g.onnx", [np.full((1, 2), value, dtype=np.float32)])
    with pytest.raises(InputError, match="no images"):
        run_logits(tmp_path / "g.onnx", [])
