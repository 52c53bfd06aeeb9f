"""The ``verify`` command: any two forms, down to the tensor; slots, extremes, other machines."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import BARE, COSINE, MIXED, PADDED, POCKET, POCKET_VIT, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import FileAccessError, InputError, UnsafeError
from swin_deploy.core.files import sha256
from swin_deploy.data.images import InputSet
from swin_deploy.graph.export import export_graph
from swin_deploy.measure.verify import saved
from swin_deploy.measure.verify.bisect import Bisection, bisect
from swin_deploy.measure.verify.candidates import (
    Candidate,
    find_candidate,
    floor_between,
    list_candidates,
    open_graph,
)
from swin_deploy.measure.verify.checks import check_pair
from swin_deploy.measure.verify.outputs import SPIKE, make_extremes
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run, find_problem
from swin_deploy.measure.verify.saved import read_outputs
from swin_deploy.network.catalogue import Variant, family_of
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import AS_EXPORTED, BatchRange, Outputs, Precision
from swin_deploy.network.model.build import build_model, load_model, output_names, with_outputs
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import run_export
from swin_deploy.report.plots import plot_depth
from swin_deploy.run import finished
from swin_deploy.run.finished import Run, require_run
from swin_deploy.run.manifest import Header, Manifest, StageRecord, Weights

# Windows shift, and so have a mask, in every stage: grids 32x32, 16x16 and 8x8 in windows of 4.
MASKED = replace(POCKET, config=replace(POCKET.config, name="masked", patch_size=2))
STAGES = range(3)
Change = Callable[[np.ndarray], np.ndarray]


def export(variant: Variant, out: Path, *precisions: Precision) -> Run:
    request = ExportRequest(
        variant=variant,
        out=out,
        batch=BatchRange(low=1, high=4),
        precisions=("fp32", *precisions),
        targets=("cpu",),
    )
    return require_run(run_export(request, Silent()).path)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return export(MASKED, tmp_path_factory.mktemp("masked run"), "fp16")


def damage(source: Path, final: Path, tensor: str, change: Change) -> str:
    """Write a graph with one constant changed; returns its path, as ``--between`` takes it."""
    model = onnx.load(source)
    (found,) = [t for t in model.graph.initializer if t.name == tensor]
    values = numpy_helper.to_array(found)
    changed = change(values.copy()).astype(values.dtype)
    assert not np.array_equal(changed, values, equal_nan=True)
    found.CopyFrom(numpy_helper.from_array(changed, tensor))
    onnx.save(model, final)
    return str(final)


def one_more(index: tuple[int, ...]) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        values[index] += 0.25
        return values

    return change


def other_windows(values: np.ndarray) -> np.ndarray:
    """The masks of the windows are handed to the wrong windows."""
    return values[::-1]


def look(run: Run, a: str, b: str, scratch: Path) -> Bisection:
    sides = list_candidates(run)
    pair = find_candidate(run, sides, a), find_candidate(run, sides, b)
    generator = np.random.default_rng(0)
    shape = (1, run.config.in_channels, *run.config.image_size)
    image = generator.standard_normal(shape, dtype=np.float32)
    model = load_model(run.config, run.weights, run.seed)
    return bisect(run, model, pair, [("noise", image)], scratch, 100.0)


# What is damaged in a block -> its constant, how, the tensor of eager and the node that show it.
DAMAGES: dict[str, tuple[str, Change, str, str]] = {
    "one weight": ("mlp.fc1.weight", one_more((3, 5)), "fc1", "mlp.fc1/MatMul"),
    "a weight of the attention": ("attn.qkv.weight", one_more((3, 5)), "attn", "attn.qkv/MatMul"),
    "a mask": ("attn.bias", other_windows, "attn", "attn/Add"),
    "a bias": ("mlp.fc2.bias", one_more((2,)), "fc2", "mlp.fc2/Add"),
}


@pytest.mark.fault(22)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", DAMAGES)
def test_bisect_names_the_block_and_the_tensor(
    masked: Run, tmp_path: Path, what: str, stage: int
) -> None:
    constant, change, part, node = DAMAGES[what]
    block = f"layers.{stage}.blocks.1"
    source = masked.path / "model.onnx"
    damaged = damage(source, tmp_path / "damaged.onnx", f"{block}.{constant}", change)
    with_eager = look(masked, "eager", damaged, tmp_path)
    assert with_eager.block is not None
    assert with_eager.block.output == block
    assert with_eager.first is not None
    assert with_eager.first.output == f"{block}, {part}"
    assert with_eager.first.stage == f"stage {stage + 1}"
    with_graph = look(masked, "onnx", damaged, tmp_path)
    assert with_graph.block is not None
    assert with_graph.block.output == block
    assert with_graph.first is not None
    assert with_graph.first.output == f"{block}.{node}"


@pytest.mark.parametrize("stage", STAGES[1:])
def test_bisect_names_a_merge(masked: Run, tmp_path: Path, stage: int) -> None:
    name = f"layers.{stage}.enter"
    source = masked.path / "model.onnx"
    weight = f"{name}.reduction.weight"
    damaged = damage(source, tmp_path / "damaged.onnx", weight, one_more((3, 5)))
    found = look(masked, "eager", damaged, tmp_path)
    assert found.first is not None
    assert found.first.output == name


def trace(variant: Variant, form: FormName, outputs: Outputs, batch: int, out: Path) -> Run:
    """A folder with a graph alone, as a run that has just been exported."""
    model = build_model(variant.config)
    network = with_outputs(freeze(model, form), outputs, variant.name)
    sizes = BatchRange(low=batch, high=batch)
    export_graph(network, variant.config, sizes, out / "model.onnx", output_names(network))
    header = Header(
        family=family_of(variant.config),
        variant=variant.config,
        preprocessing=variant.preprocessing,
        parameters=0,
        weights=Weights(source="random", seed=0),
        batch=sizes,
        outputs=outputs,
        interface=AS_EXPORTED,
        photos=None,
        never_run={},
        notes=(),
    )
    drawn = {"sizes": [1], "seed": None}
    nothing = {
        "batches": drawn,
        "comparisons": 0,
        "converted_exactly": [],
        "not_run": {},
        "fp32_floors_db": {},
        "fp32_extreme_floors_db": {},
    }
    gate = StageRecord(key="", outputs={}, details=nothing)
    return Run(out, Manifest(header=header, stages={"verify": gate}), {})


@pytest.mark.parametrize(
    ("variant", "form", "outputs", "constant", "expected"),
    [
        (POCKET, "slabs", "logits", "layers.1.blocks.1.attn.proj.bias", "layers.1.blocks.1, attn"),
        (COSINE, "packed", "logits", "layers.1.blocks.1.norm2.bias", "layers.1.blocks.1, norm2"),
        (
            COSINE,
            "packed",
            "stages",
            "backbone.layers.2.blocks.1.norm2.bias",
            "layers.2.blocks.1, norm2",
        ),
        (
            PADDED["padded-before-v2"],
            "packed",
            "logits",
            "layers.0.enter.norm.bias",
            "layers.0.enter",
        ),
        (
            PADDED["padded-after-v1"],
            "slabs",
            "logits",
            "layers.2.enter.norm.bias",
            "layers.2.enter",
        ),
        (POCKET_VIT, "packed", "logits", "blocks.3.mlp.fc1.bias", "blocks.3, fc1"),
        (BARE, "slabs", "logits", "fc_norm.bias", "fc_norm"),
        (MIXED, "packed", "logits", "layers.1.enter.reduction.bias", "layers.1.enter"),
    ],
    ids=["slabs", "V2", "V2 maps", "V2 padded", "V1 padded", "ViT", "bare", "mixed"],
)
def test_every_kind_of_network_can_be_looked_into(
    tmp_path: Path, variant: Variant, form: FormName, outputs: Outputs, constant: str, expected: str
) -> None:
    """Tokens of eager are brought into the order of the graph, so that a right graph agrees."""
    run, graph = trace(variant, form, outputs, 2, tmp_path), tmp_path / "model.onnx"
    whole = look(run, "eager", str(graph), tmp_path)
    assert [row.reason for row in whole.rows if row.reason] == []
    assert whole.unmatched == []
    depths = getattr(variant.config, "depths", None) or (variant.config.depth,)
    head = 2 if outputs == "logits" else 0
    assert len(whole.rows) == len(depths) + sum(depths) + head  # with the embedding and the merges
    damaged = damage(graph, tmp_path / "damaged.onnx", constant, one_more((2,)))
    found = look(run, "eager", damaged, tmp_path)
    assert found.first is not None
    assert found.first.output == expected


def test_the_whole_command_names_a_damage(
    masked: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, report = masked.path, tmp_path / "report.json"
    graph = damage(
        run / "model.onnx",
        tmp_path / "damaged.onnx",
        "layers.1.blocks.0.mlp.fc1.weight",
        one_more((0, 0)),
    )
    plot = tmp_path / "depth.svg"
    command = ["verify", str(run), "--between", f"eager,{graph}", "--bisect", "--plot", str(plot)]
    assert cli.run([*command, "--out", str(report)]) == 5
    out = capsys.readouterr()
    assert "first tensor that leaves its floor: layers.1.blocks.0, fc1 (stage 2" in out.out
    assert "layers.1.blocks.0, fc1" in out.err
    written = json.loads(report.read_text())
    assert not written["passed"]
    assert written["bisections"][0]["block"] == "layers.1.blocks.0"
    assert {row["inputs"] for row in written["checks"] if not row["passed"]} >= {"black x1"}
    assert all(row["reason"] for row in written["checks"])
    assert "first below its floor: layers.1.blocks.0, fc1" in plot.read_text()
    assert cli.run([*command, "--out", str(report), "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "E_VERIFY"
    assert error["report"]["bisections"][0]["first"]["tensor"] == "layers.1.blocks.0, fc1"


def test_nan_inside_is_found(masked: Run, tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[0] = np.nan
        return values

    graph = damage(
        masked.path / "model.onnx", tmp_path / "nan.onnx", "layers.2.blocks.0.norm2.bias", spoil
    )
    request = VerifyRequest(
        run=masked.path, between=(("onnx", graph),), bisect=True, out=tmp_path / "x.json"
    )
    report = check_run(request, print)
    assert not report["passed"]
    found = report["bisections"][0]
    assert found["first"]["tensor"] == "layers.2.blocks.0.norm2/LayerNormalization"
    assert "NaN" in found["first"]["reason"]
    json.dumps(report, allow_nan=False)
    plot_depth(report, tmp_path / "nan.png")


@pytest.mark.parametrize(
    ("name", "content"),
    [("manifest.json", None), ("table.json", "image,class"), ("evaluate.json", '{"kind": "x"}')],
)
def test_a_file_of_another_kind_is_not_overwritten(
    masked: Run,
    tmp_path: Path,
    name: str,
    content: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / name
    out.write_text(content or (masked.path / name).read_text())
    before = out.read_text()
    assert cli.run(["verify", str(masked.path), "--out", str(out)]) == 9
    assert "is no report of this command" in capsys.readouterr().err
    with pytest.raises(FileAccessError, match="is no report of this command"):
        check_run(VerifyRequest(run=masked.path, out=out), print)
    assert out.read_text() == before


def test_a_right_run_passes_and_its_own_files_stay(
    masked: Run, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(masked.path, run)
    before = {p: sha256(p) for p in run.rglob("*") if p.is_file()}
    arguments = ["--images", str(photos), "--limit", "3", "--bisect", "--json"]
    assert cli.run(["verify", str(run), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert json.loads((run / "checks.json").read_text()) == report
    assert {p: sha256(p) for p in before} == before
    seen = {row["inputs"] for row in report["checks"] if row["kind"] == "outputs"}
    assert seen == {
        *("noise x1", "noise x2", "noise x3", "noise x4", "black x1", "white x1", "grey x1"),
        *("saturated x6", "checkerboard x1", "pixel noise x2", "spikes x2", "photos 1-3"),
    }
    assert {row["candidate"] for row in report["checks"]} >= {"eager", "raw", "onnx", "fp16"}
    assert {pair["candidate"] for pair in report["bisections"]} == {"raw", "onnx", "fp16"}


def test_what_cannot_run_here_is_said(
    masked: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "why_not_here", lambda target, flags: "no such GPU")
    common = ["verify", str(masked.path), "--out", str(tmp_path / "x.json")]
    assert cli.run(common) == 0
    assert json.loads((tmp_path / "x.json").read_text())["not_run"] == {"cpu-fp32": "no such GPU"}
    assert cli.run([*common, "--between", "eager,cpu-fp32"]) == 4


def mix_slots(source: Path, final: Path) -> str:
    """A graph that adds a little of the mean of the batch to every image's logits."""
    model = onnx.load(source)
    graph = model.graph
    (head,) = [node for node in graph.node if "logits" in node.output]
    head.output[0] = "own"
    constants = {"axis": np.array([0], np.int64), "little": np.array(1e-3, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["own", "axis"], ["all"], keepdims=1),
            onnx.helper.make_node("Mul", ["all", "little"], ["share"]),
            onnx.helper.make_node("Add", ["own", "share"], ["logits"]),
        ]
    )
    onnx.save(model, final)
    return str(final)


def test_a_graph_that_mixes_slots_fails(masked: Run, tmp_path: Path) -> None:
    graph = mix_slots(masked.path / "model.onnx", tmp_path / "mixed.onnx")
    request = VerifyRequest(run=masked.path, between=(("onnx", graph),), out=tmp_path / "x.json")
    rows = [r for r in check_run(request, print)["checks"] if r["kind"] == "slots"]
    verdicts = {(row["candidate"], row["inputs"]): row["passed"] for row in rows}
    sizes = (3, 4)
    for size in sizes:
        copies, others = (f"one image in {size} slots, {x} beside it" for x in ("itself", "others"))
        assert verdicts[graph, copies]  # the mean of copies is the image itself
        assert not verdicts[graph, others]
        assert verdicts["onnx", copies]
        assert verdicts["onnx", others]
    assert "slot" in next(row["reason"] for row in rows if not row["passed"])


def test_outputs_from_elsewhere_are_compared(
    masked: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, kept, out = str(masked.path), tmp_path / "kept.npz", str(tmp_path / "x.json")
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
def kept(masked: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kept")
    request = VerifyRequest(
        run=masked.path,
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
def test_pickled_objects_are_refused(kept: dict[str, Any], masked: Run, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "x.npz", kept | {LOGITS: np.array([{}], dtype=object)})
    with pytest.raises(UnsafeError):
        read_outputs(path)
    assert cli.run(["verify", str(masked.path), "--against", str(path)]) == 8


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
    with pytest.raises(InputError, match="several arrays of one name"):
        read_outputs(twice)
    monkeypatch.setattr(saved, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="1000 is the most"):
        read_outputs(whole)


def test_other_weights_are_refused(kept: dict[str, Any], masked: Run, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "x.npz", with_header(kept, run="0" * 64))
    assert cli.run(["verify", str(masked.path), "--against", str(path)]) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--between", "eager"], 2),
        (["--between", "eager,nothing"], 2),
        (["--between", "eager,eager"], 2),
        (["--between", "eager,missing.onnx"], 3),
        (["--limit", "3"], 2),
        (["--batches", "0"], 2),
        (["--plot", "x.svg"], 2),
        (["--bisect", "--plot", "x.pdf"], 2),
        (["--save", "x.json"], 2),
        (["--against", "x.npz", "--bisect"], 2),
        (["--against", "missing.npz"], 3),
        (["--images", "missing"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes(
    masked: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["verify", str(masked.path), "--out", "x.json", *arguments]) == code
    assert not (tmp_path / "x.json").exists()


def test_without_a_run_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert cli.run(["verify", str(tmp_path)]) == 3
    assert find_problem([]) == "nothing was compared that could be judged"


def test_floors_of_two_add_up(masked: Run) -> None:
    sides = list_candidates(masked)
    assert floor_between((sides["eager"], sides["onnx"])) == pytest.approx(110)
    assert floor_between((sides["raw"], sides["onnx"])) == pytest.approx(103.98, abs=0.01)
    half = replace(sides["onnx"], precision="fp16")
    assert floor_between((half, sides["onnx"])) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(
    ("inputs", "noise_db", "passed"),
    [
        ("noise x3", 41, True),
        ("noise x3", 39, False),
        ("checkerboard x1", 31, True),
        ("checkerboard x1", 29, False),
    ],
)
def test_fp16_has_a_floor_of_its_own_on_extremes(
    masked: Run, inputs: str, noise_db: float, passed: bool
) -> None:
    sides = list_candidates(masked)
    logits = np.random.default_rng(0).standard_normal((1, 7)).astype(np.float32)
    results = {"logits": logits}, {"logits": logits * (1 + 10 ** (-noise_db / 20))}
    (row,) = check_pair(
        masked, sides["eager"], sides["fp16"], InputSet(inputs, logits), results, {}
    )
    assert bool(row) == passed
    assert row.judged


def test_int8_is_judged_on_photos_alone(masked: Run) -> None:
    eager, int8 = list_candidates(masked)["eager"], Candidate("int8", "int8")
    logits = np.random.default_rng(0).standard_normal((1, 7)).astype(np.float32)
    results = {"logits": logits}, {"logits": logits * 1.2}
    photo, noise = (InputSet("x", logits, natural=natural) for natural in (True, False))
    (judged,) = check_pair(masked, eager, int8, photo, results, {})
    assert not judged
    (reported,) = check_pair(masked, eager, int8, noise, results, {})
    assert reported
    assert not reported.judged
    assert "ranges of INT8" in reported.row().reason
    assert find_problem([reported]) == "nothing was compared that could be judged"
    broken = {"logits": logits}, {"logits": logits * np.nan}
    assert not check_pair(masked, eager, int8, noise, broken, {})[0]
    # Of a graph that accuracy has let pass: by what it is, and no longer by what is usual.
    by_accuracy = replace(int8, photos_db=13.0)
    (judged,) = check_pair(masked, eager, by_accuracy, photo, results, {})
    assert judged
    assert judged.floor_db == pytest.approx(13)
    zeros = {"logits": logits}, {"logits": logits * 0}
    assert not check_pair(masked, eager, by_accuracy, photo, zeros, {})[0]


def test_extremes_are_pixels(masked: Run) -> None:
    mean, std = (np.array(v) for v in (masked.preprocessing.mean, masked.preprocessing.std))
    sets = make_extremes(masked.images, masked.preprocessing, masked.config.image_size)
    assert np.abs(sets.pop().images).max() == SPIKE
    for images in sets:
        pixels = (images.images.transpose(0, 2, 3, 1) * std + mean) * 255
        assert pixels.min() >= -1e-3
        assert pixels.max() <= 255 + 1e-3
        assert not images.natural


@pytest.mark.parametrize("option", ["out", "save"])
def test_where_nothing_can_be_written_nothing_is_computed(
    masked: Run, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    kept = {"out": tmp_path / "checks.json"} | {option: tmp_path / "file" / "x.npz"}
    listener = Silent()
    with pytest.raises(FileAccessError, match="cannot write in"):
        check_run(VerifyRequest(run=masked.path, **kept), listener.started)
    assert not listener.titles


def test_a_graph_that_is_swapped_for_one_in_half_precision_is_refused(
    masked: Run, tmp_path: Path
) -> None:
    """It would be rounded, and what was rounded has no recorded hash to be compared with."""
    run = require_run(Path(shutil.copytree(masked.path, tmp_path / "run")))
    side = list_candidates(run)["onnx"]
    shutil.copy(run.path / "model.fp16.onnx", run.path / "model.onnx")
    with pytest.raises(UnsafeError, match="was changed"):
        open_graph(side, tmp_path)
