"""``swin-deploy cost``: a run, its engine, an ONNX file; estimates; comparisons; damage."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from conftest import POCKET_VIT, Silent
from manifests import edit_manifest
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import read_json
from swin_deploy.engine.cost.gpus import GPUS, estimate_s, find_gpu
from swin_deploy.engine.cost.graph_facts import GraphFacts, read_graph
from swin_deploy.engine.cost.kernels import cost_listing, diff_listings, kernel_lines
from swin_deploy.engine.cost.listing import Listing, from_dict
from swin_deploy.measure import cost as subject
from swin_deploy.measure.cost import open_subjects
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export
from swin_deploy.run.finished import Run

LISTING, PLAN = "engines/rtx-fp16.kernels.json", "engines/rtx-fp16.plan"


@pytest.fixture(scope="module")
def parts(fixed_run: Path) -> tuple[Listing, GraphFacts]:
    listing = from_dict(read_json(fixed_run / LISTING) or {}, LISTING)
    return listing, read_graph(fixed_run / "model.fp16.onnx")


def flops_of(graph: GraphFacts) -> int:
    return sum(node.flops or 0 for node in graph.nodes.values())


def report(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    assert cli.run(["cost", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_flops_of_all_kernels_are_those_of_the_graph(
    parts: tuple[Listing, GraphFacts],
) -> None:
    listing, graph = parts
    cost = cost_listing(listing, graph)
    assert cost.unattributed == ()
    assert cost.totals.flops == flops_of(graph) > 0
    assert sum(sums.flops or 0 for sums in cost.by_block().values()) == flops_of(graph)


def test_a_listing_that_lacks_a_product_is_found_out(parts: tuple[Listing, GraphFacts]) -> None:
    listing, graph = parts
    node = next(name for name in graph.nodes if name.endswith("mlp.fc1/MatMul"))
    kernels = tuple(
        replace(kernel, onnx_nodes=tuple(n for n in kernel.onnx_nodes if n != node))
        for kernel in listing.kernels
    )
    cost = cost_listing(Listing(kernels), graph)
    assert cost.unattributed == (node,)
    assert (cost.totals.flops or 0) < flops_of(graph)


def test_a_product_counts_once_however_many_kernels_name_it(
    parts: tuple[Listing, GraphFacts],
) -> None:
    listing, graph = parts
    product = next(k for k in listing.kernels if any("fc1/MatMul" in n for n in k.onnx_nodes))
    copy = replace(product, name="__myl_Slic_myl0_9", kind="kgen")
    cost = cost_listing(Listing((copy, *listing.kernels, copy)), graph)
    assert cost.totals.flops == flops_of(graph)
    assert cost.kernels[0].flops == cost.kernels[-1].flops == 0


def test_every_part_of_a_network_is_placed(parts: tuple[Listing, GraphFacts]) -> None:
    cost = cost_listing(*parts)
    assert set(cost.by_purpose()) >= {"projection", "mlp", "norm", "embed", "merge", "head"}
    blocks = {block for block, _ in cost.by_block()}
    names = {f"layers.{i}.blocks.{j}" for i, depth in enumerate((2, 2, 2)) for j in range(depth)}
    assert blocks == names | {""}
    assert cost.attentions == 6
    mlp = cost.by_purpose()["mlp"]
    tokens, c, batch = 16 * 16, 16, 2  # (4c per token) twice, a product of c and 4c each
    per_stage = [2 * batch * (tokens >> 2 * i) * 2 * 4 * (c << i) ** 2 * 2 for i in range(3)]
    assert mlp.flops == sum(per_stage)


def test_a_vit_is_placed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = ExportRequest(variant=POCKET_VIT, out=tmp_path / "vit", targets=("rtx",))
    engine = report(capsys, run_export(request, Silent()).path)["engines"][0]
    assert engine["warnings"] == []
    assert set(engine["blocks"]) >= {f"blocks.{i}" for i in range(4)} | {"(embed)", "(head)"}
    assert "permutation" not in engine["purposes"]


def test_a_run_and_its_plan_are_read_and_its_graph_compiled(
    fixed_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All three give the same kernels; only the graph is compiled, and nothing is left of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiled = report(capsys, fixed_run / "model.fp16.onnx")["engines"][0]
    monkeypatch.setattr(subject, "run_in_child", None)  # from here on nothing is compiled
    whole = report(capsys, fixed_run)["engines"][0]
    plan = report(capsys, fixed_run / PLAN)["engines"][0]
    assert whole == plan
    assert whole["kernels"] == compiled["kernels"]
    assert whole["totals"] == compiled["totals"]
    assert whole["totals"]["kernels"] == len(whole["kernels"])
    assert whole["batch"] == {"low": 2, "high": 2}
    assert not list(tmp_path.iterdir())


def test_a_dynamic_batch_has_counts_and_no_sizes(
    pocket_run: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(capsys, pocket_run.path, "--gpu", "a100")["engines"]
    assert [engine["name"] for engine in found] == ["pocket rtx-fp16"]
    totals = found[0]["totals"]
    assert totals["kernels"] == pocket_run.stages["engine:rtx-fp16"].details["kernels"]
    assert totals["weight_bytes"] > 0
    assert {totals[n] for n in ("activation_bytes", "flops", "estimate_s")} == {None}
    assert cli.run(["cost", str(pocket_run.path), "--gpu", "a100", "--kernels", "--blocks"]) == 0
    assert "no estimate for a100: the batch is dynamic" in capsys.readouterr().out


def test_the_tables_say_what_the_object_says(
    fixed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = report(capsys, fixed_run, "--gpu", "a100")["engines"][0]
    assert cli.run(["cost", str(fixed_run), "--gpu", "a100", "--blocks", "--kernels"]) == 0
    text = capsys.readouterr().out
    assert f"fused attentions: {engine['fused_attentions']} of 6" in text
    assert "not a measurement" in text
    assert "estimate for a100" in text
    assert "layers.1.blocks.0" in text
    lines = text.splitlines()
    rows = [line for line in lines if line.split()[:1] and line.split()[0].isdecimal()]
    assert len(rows) == engine["totals"]["kernels"]


def test_two_engines_are_set_side_by_side(
    fixed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The FP32 graph fuses no attention: more kernels, twice the weights, the same FLOPs."""
    other = fixed_run / "model.onnx"
    found = report(capsys, fixed_run, "--compare", other)
    (comparison,) = found["comparisons"]
    ours, theirs = found["engines"][0]["totals"], comparison["other"]["totals"]
    difference = comparison["difference"]["totals"]
    assert theirs["flops"] == ours["flops"]
    assert difference["kernels"] == ours["kernels"] - theirs["kernels"] < 0
    assert difference["weight_bytes"] < 0
    assert comparison["other"]["fused_attentions"] == 0
    assert "+norm" in comparison["kernel_diff"]
    assert cli.run(["cost", str(fixed_run), "--compare", str(other), "--kernels"]) == 0
    assert "difference" in capsys.readouterr().out


def test_a_changed_kernel_is_one_line_of_the_diff(parts: tuple[Listing, GraphFacts]) -> None:
    listing, graph = parts
    lines = kernel_lines(cost_listing(listing, graph))
    assert diff_listings(lines, lines) == ""
    renumbered = tuple(
        replace(k, name=k.name.replace("_myl0_", "_myl7_9")) for k in listing.kernels
    )
    assert kernel_lines(cost_listing(Listing(renumbered), graph)) == lines
    fewer = kernel_lines(cost_listing(Listing(listing.kernels[:-1]), graph))
    changed = [line for line in diff_listings(lines, fewer).splitlines() if line[:1] in "+-"]
    assert changed == ["--- old", "+++ new", f"-{lines[-1]}"]


def test_an_estimate_is_the_larger_of_two_times() -> None:
    a100 = GPUS["a100"]
    assert estimate_s(a100, 2039, 0, "Half") == (pytest.approx(1e-9), "memory")
    assert estimate_s(a100, 2039, 624 * 10**6, "Half") == (pytest.approx(2e-6), "compute")
    assert estimate_s(a100, 2039, 624 * 10**6, "Int8") == (pytest.approx(1e-6), "compute")
    with pytest.raises(ConfigError, match="no Int8 rate of jetson-thor"):
        estimate_s(GPUS["jetson-thor"], 1, 1, "Int8")


def test_rates_of_gpus_hang_together() -> None:
    """No figure with sparsity slipped in: INT8 is twice FP16, four times where FP16 is halved."""
    for gpu in GPUS.values():
        assert gpu.source
        assert gpu.fp32_tflops < gpu.fp16_tflops
        if gpu.int8_tops is not None:
            assert round(gpu.int8_tops / gpu.fp16_tflops) == (4 if "rtx" in gpu.name else 2)
    assert find_gpu("A100") is GPUS["a100"]


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


@pytest.mark.parametrize("name", [LISTING, PLAN, "model.fp16.onnx"])
def test_a_changed_file_of_a_run_is_refused(
    name: str, fixed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(fixed_run, tmp_path)
    (run / name).write_bytes((run / name).read_bytes() + b" ")
    assert cli.run(["cost", str(run)]) == 8
    assert "was changed" in capsys.readouterr().err


def test_a_run_of_an_older_version_and_one_without_kernels(
    fixed_run: Path, pocket_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(fixed_run, tmp_path)
    edit_manifest(run, lambda m: m["stages"]["engine:rtx-fp16"]["outputs"].pop(LISTING))
    assert cli.run(["cost", str(run)]) == 3
    assert "kept no listing of kernels; try: export again" in capsys.readouterr().err
    edit_manifest(run, lambda m: m["stages"].pop("engine:rtx-fp16"))
    assert cli.run(["cost", str(run)]) == 3
    assert "no engine whose runtime lists its kernels" in capsys.readouterr().err
    assert cli.run(["cost", str(pocket_run.path / "engines/cpu-fp32.onnx")]) == 3
    assert "an engine of onnxruntime, which lists no kernels" in capsys.readouterr().err


def test_what_the_compiler_did_not_list_is_said(parts: tuple[Listing, GraphFacts]) -> None:
    with pytest.raises(InputError, match="its kernels are not known: another layout"):
        cost_listing(Listing((), "another layout"), parts[1])
    with pytest.raises(InputError, match="none are listed"):
        cost_listing(Listing(()), parts[1])


def test_a_graph_of_another_kind_is_counted_with_a_warning(
    fixed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(fixed_run / "model.fp16.onnx")
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
    onnx.save(model, tmp_path / "anonymous.onnx")
    (subject,) = open_subjects(tmp_path / "anonymous.onnx", lambda title: None)
    assert cost_listing(subject.listing, subject.graph).unattributed == ()
    (engine,) = report(capsys, tmp_path / "anonymous.onnx")["engines"]
    assert engine["warnings"] == ["no blocks are recognised in the names of this graph's nodes"]
    assert set(engine["purposes"]) == {"other"}
    assert engine["totals"]["flops"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anonymous.onnx"]


def test_a_missing_compiler_is_named(
    fixed_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "COMPILER", replace(subject.COMPILER, module="not_there_at_all"))
    assert cli.run(["cost", str(fixed_run / "model.onnx")]) == 4
    assert "pip install" in capsys.readouterr().err


def test_an_engine_is_read_by_the_bytes_that_were_recorded(
    fixed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its graph is another one as soon as the check is done."""
    expected = [subject.graph for subject in open_subjects(fixed_run, lambda title: None)]
    run = Path(shutil.copytree(fixed_run, tmp_path / "run"))
    checked = Run.checked

    def swap(run: Run, name: str) -> Path:
        path = checked(run, name)
        path.write_bytes(b"another network")
        return path

    monkeypatch.setattr(Run, "checked", swap)
    found = open_subjects(run, lambda title: None)
    assert [subject.graph for subject in found] == expected
