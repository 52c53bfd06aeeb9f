"""``swin-deploy sensitivity``: a damaged place is found, and it alone is left out of INT8."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil, log2
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from conftest import TRAINED
from manifests import edit_manifest
from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, FileAccessError, InputError
from swin_deploy.core.files import read_json
from swin_deploy.core.records import decode
from swin_deploy.data.samples import find_calibration
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.int8.places import RECIPES, choose_places, find_places
from swin_deploy.graph.int8.probe import (
    Effect,
    Probe,
    compare_logits,
    list_places,
    run_logits,
)
from swin_deploy.graph.int8.quantize import quantize_graph, tensors_to_calibrate
from swin_deploy.measure.journal import Journal
from swin_deploy.measure.sensitivity import run as sensitivity_run
from swin_deploy.measure.sensitivity.measure import (
    KeptMeasurements,
    effect_of,
    effect_row,
    find_fewest,
)
from swin_deploy.measure.sensitivity.report import Baseline, EffectRow, SensitivityRequest
from swin_deploy.measure.sensitivity.run import measure_sensitivity
from swin_deploy.measure.sensitivity.subject import Measured, open_run_graph
from swin_deploy.measure.workers.crew import Crew
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import mean_sqnr_db, sqnr_db, wilson_interval
from swin_deploy.report.plots import plot_sensitivity

WEIGHTS = bundled_weights("swin_pocket")
RECIPE = RECIPES["tensorrt"]
DAMAGED = "layers.1.enter.reduction"  # the merge that is given a threshold 1000 times too large


@pytest.fixture(scope="module")
def pocket(trained_once: Callable[..., Path]) -> Path:
    """A run with a dynamic batch. Tests must not change what the manifest lists."""
    return trained_once(batch=BatchRange(low=1, high=16), targets=("cpu",))


@pytest.fixture(scope="module")
def single(trained_once: Callable[..., Path]) -> Path:
    """A run of one image at a time, so that everything has a size. Tests must not change it."""
    return trained_once(batch=BatchRange(), targets=("rtx",))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "calibration" and "held", of 40 and 120 digits in class folders."""
    images, labels = load_mnist_5k(find_mnist_5k())
    train, held = split_held_out(labels)
    folder = tmp_path_factory.mktemp("digits")
    for name, rows in (("calibration", train[::100]), ("held", held[::8][:120])):
        for row in rows:
            path = folder / name / str(labels[row]) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row]).save(path)
    return folder


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


def request_of(pocket: Path, digits: Path, out: Path, **settings: Any) -> SensitivityRequest:
    given = {"labelled": digits / "held", "out": out / "report.json"} | settings
    return SensitivityRequest(run=pocket, calibration=digits / "calibration", **given)


def measure(request: SensitivityRequest) -> dict[str, Any]:
    return measure_sensitivity(request, lambda title: None, lambda text: None)


def names(report: dict[str, Any]) -> list[str]:
    return [row["name"] for row in report["places"]]


# The search


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


# The places


def test_only_some_places_of_the_recipe(pocket: Path) -> None:
    places = find_places(ir.load(pocket / "model.onnx").graph)
    whole = choose_places(places, RECIPE, 16)
    one = choose_places(places, RECIPE, 16, only=[DAMAGED])
    assert one.names == (DAMAGED,)
    attention = choose_places(places, RECIPE, 16, only=["layers.0.blocks.0.attn"])
    assert attention.names == ("layers.0.blocks.0.attn",)
    assert choose_places(places, RECIPE, 16, only=["*"]) == whole
    with pytest.raises(ConfigError, match="no product or attention is called 'head'"):
        choose_places(places, RECIPE, 16, only=["head"])


@pytest.mark.parametrize("batch", [1, 16])
def test_keeping_a_place_quantises_no_other(pocket: Path, batch: int) -> None:
    """With a budget of MLPs that is spent, the one that is kept frees no room for another."""
    places = find_places(ir.load(pocket / "model.onnx").graph)
    whole = set(choose_places(places, RECIPE, batch).names)
    mlps = {name for name in whole if ".mlp." in name}
    if batch == 1:
        assert mlps
    for name in whole:
        rest = set(choose_places(places, RECIPE, batch, keep=[name]).names)
        pair = {n for n in mlps if name in mlps and n.rpartition(".")[0] == name.rpartition(".")[0]}
        assert rest == whole - {name} - pair


def test_places_are_listed_as_they_run(pocket: Path) -> None:
    listed = list_places(pocket / "model.onnx", RECIPE, 16)
    placement = choose_places(find_places(ir.load(pocket / "model.onnx").graph), RECIPE, 16)
    assert set(listed) == set(placement.names)
    block = [name for name in listed if name.startswith("layers.0.blocks.0.")]
    assert block[:3] == [f"layers.0.blocks.0.attn{part}" for part in (".qkv", "", ".proj")]
    assert [listed[name] for name in block[:3]] == ["qkv", "attention", "proj"]
    assert list(listed).index(DAMAGED) > list(listed).index("layers.0.blocks.1.attn.proj")


# The measurement


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
    pocket: Path, tmp_path: Path, noise: Callable[..., np.ndarray]
) -> None:
    tensors = tensors_to_calibrate(pocket / "model.onnx", RECIPE, 16)
    plain = replace(RECIPE, surrounding="fp32")
    path = tmp_path / "q.onnx"
    quantize_graph(pocket / "model.onnx", path, dict.fromkeys(tensors, 4.0), plain, 16)
    images = noise(TRAINED, 4)
    with OnnxRuntimeRunner(path) as runner:
        integers = runner.run(images)["logits"]
    whole = run_logits(pocket / "model.onnx", [images])
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


@pytest.mark.usefixtures("damage", "uncompiled")
def test_a_damaged_place_ranks_first_and_is_left_out_alone(
    pocket: Path, digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(pocket, digits, tmp_path, max_drop=3.0))
    assert names(report)[0] == DAMAGED
    first, second = report["places"][:2]
    assert first["mean_sqnr_db"] < second["mean_sqnr_db"] - 20
    assert report["all"]["drop_points"] > 20
    assert report["mixed"]["keep"] == report["mixed"]["left"] == [DAMAGED]
    assert report["mixed"]["drop_points"] <= 3.0
    assert report["mixed"]["quantised"] == len(report["places"]) - 1
    low, high = report["mixed"]["interval"]
    assert low < report["mixed"]["accuracy"] < high
    assert len(report["places"]) == len(list_places(pocket / "model.onnx", RECIPE, 16))


@pytest.mark.usefixtures("damage", "uncompiled")
def test_the_same_without_labels(pocket: Path, digits: Path, tmp_path: Path) -> None:
    goal = {"labelled": None, "images": digits / "held", "min_sqnr_db": 15.0}
    report = measure(request_of(pocket, digits, tmp_path, **goal))
    assert report["all"]["sqnr_db"] < 15
    assert report["mixed"]["keep"] == [DAMAGED]
    assert report["mixed"]["sqnr_db"] >= 15
    assert report["fp32"]["right"] is None
    assert report["all"]["drop_points"] is None


@pytest.mark.usefixtures("uncompiled")
def test_the_trained_network_needs_no_place_in_fp16(
    pocket: Path, digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(pocket, digits, tmp_path, max_drop=3.0))
    assert report["mixed"]["keep"] == []
    assert report["fp32"]["accuracy"] > 0.95
    assert report["all"]["sqnr_db"] > 20


@pytest.mark.usefixtures("uncompiled")
def test_a_goal_that_no_int8_meets_leaves_every_place(
    pocket: Path, digits: Path, tmp_path: Path
) -> None:
    report = measure(request_of(pocket, digits, tmp_path, min_sqnr_db=200.0))
    assert report["mixed"]["quantised"] == 0
    assert sorted(report["mixed"]["left"]) == sorted(names(report))
    assert report["mixed"]["sqnr_db"] is None
    assert any("stay on FP16" in note for note in report["notes"])


@pytest.mark.usefixtures("uncompiled")
def test_another_goal_measures_only_what_is_new(
    pocket: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pocket, digits, tmp_path)
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
    pocket: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sensitivity", str(pocket), "--calibration", str(digits / "calibration")]
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
    for measure in (lambda: found, None):
        journal = Journal(tmp_path / "x.json", {}, lambda text: None)
        assert journal.get("fp32", Baseline, cast(Any, measure)) == found


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
    pocket: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--labelled", str(digits / "held"), "--max-drop", "0"]
    command = ["sensitivity", str(pocket), "--calibration", str(digits / "calibration"), *settings]
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
    single: Path, digits: Path, tmp_path: Path
) -> None:
    """Of one image at a time, whose MLPs are quantised: keeping all but one fc2 leaves nothing."""
    places = list_places(single / "model.onnx", RECIPE, 1)
    second = next(name for name, kind in places.items() if kind == "fc2")
    lab = KeptMeasurements(
        measured=Measured(
            open_run_graph(single, tmp_path), find_calibration(digits / "calibration")
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
def test_kernels_and_bytes_of_both_placements(single: Path, digits: Path, tmp_path: Path) -> None:
    """The weights of the merge that stays in FP16, 4c x 2c, have two bytes instead of one."""
    report = measure(request_of(single, digits, tmp_path, labelled=None, min_sqnr_db=15.0))
    assert report["mixed"]["keep"] == [DAMAGED]
    whole, mixed = report["mixed"]["cost"]["all"], report["mixed"]["cost"]["mixed"]
    assert whole["compiler"].startswith("tensorrt_rtx")
    assert min(whole["kernels"], mixed["kernels"]) > 0
    assert whole["activation_bytes"] > 0
    assert mixed["weight_bytes"] - whole["weight_bytes"] > 0.9 * 64 * 32


# The command


def test_the_tables_the_plot_and_the_object(
    pocket: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg, png = tmp_path / "places.svg", tmp_path / "places.png"
    command = ["sensitivity", str(pocket), "--calibration", str(digits / "calibration")]
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


def run_command(pocket: Path, digits: Path, *more: str | Path) -> int:
    words = ["sensitivity", pocket, "--calibration", digits / "calibration", *more]
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
    pocket: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    reason: str,
) -> None:
    assert run_command(pocket, digits, *more, "--out", tmp_path / "x.json") == code
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_labels_that_are_not_the_classes_exit_with_3(
    pocket: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(digits / "held", tmp_path / "held")
    (tmp_path / "held" / "3").rename(tmp_path / "held" / "three")
    code = run_command(
        pocket, digits, "--labelled", tmp_path / "held", "--out", tmp_path / "x.json"
    )
    assert code == 3
    error = capsys.readouterr().err
    assert "'three' is no number from 0 to 9" in error
    assert "--images" in error
    assert not (tmp_path / "x.json").exists()


def test_a_run_without_logits_or_with_another_graph_is_refused(
    pocket: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(pocket, tmp_path / "run"))
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes() + b" ")
    assert run_command(run, digits) == 8
    assert "was changed" in capsys.readouterr().err
    edit_manifest(run, lambda manifest: manifest.update(outputs="stages"))
    assert run_command(run, digits) == 2
    assert "gives stages" in capsys.readouterr().err
    edit_manifest(run, lambda manifest: manifest["preprocessing"].update(stdd=[1]))
    assert run_command(run, digits) == 3
    assert "preprocessing.stdd is [1], not a key of this version" in capsys.readouterr().err


def test_a_file_of_another_kind_is_not_overwritten(
    pocket: Path, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    out.write_text('{"mine": 1}')
    with pytest.raises(FileAccessError, match="no report of this command"):
        measure(request_of(pocket, digits, tmp_path))
    assert out.read_text() == '{"mine": 1}'


def test_a_missing_plot_library_is_named_before_anything_is_measured(
    pocket: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run_command(pocket, digits, "--plot", tmp_path / "x.svg") == 4
    assert "pip install matplotlib" in capsys.readouterr().err
