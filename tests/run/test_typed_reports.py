"""Reports in JSON: what a command wrote comes back as the classes that wrote it, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import report_files
from swin_deploy.cli.main import run
from swin_deploy.engine.cost.graph_facts import GraphCost
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.run import evaluate_candidates
from swin_deploy.measure.scaling import run as scaling
from swin_deploy.measure.scaling.report import Compiled, ScalingRequest, Turn
from swin_deploy.measure.sensitivity.report import SensitivityRequest
from swin_deploy.measure.sensitivity.run import measure_sensitivity
from swin_deploy.measure.verify.report import VerifyRequest
from swin_deploy.measure.verify.run import check_run
from swin_deploy.network.catalogue import find_variant
from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.gather import KINDS, read_content


def silent(_: str) -> None:
    """Hears progress."""


def read(path: Path) -> Any:
    return read_content(path, next(kind for kind in KINDS if kind.name == path.name))


def require_whole(path: Path) -> None:
    """Nothing of a file is lost between its JSON and the class that wrote it."""
    assert json.loads(json.dumps(read(path).as_dict())) == json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests may measure, and must not change otherwise."""
    return Path(shutil.copytree(pocket_run.path, tmp_path_factory.mktemp("typed") / "run"))


def test_what_an_export_verified_comes_back(folder: Path) -> None:
    require_whole(folder / "verify.json")
    assert read(folder / "verify.json").batches.sizes


def test_what_verify_wrote_comes_back(folder: Path) -> None:
    request = VerifyRequest(run=folder, between=(("eager", "onnx"),), batches=(1,), bisect=True)
    report = check_run(request, silent)
    require_whole(folder / "checks.json")
    found = read(folder / "checks.json")
    assert found.bisections[0].rows
    assert found.as_dict() == report


def test_what_bench_wrote_comes_back(folder: Path) -> None:
    bench_engine(BenchRequest(engine=folder, batches=(1,), rounds=2), silent)
    require_whole(folder / "bench.json")
    (eager, engine) = read(folder / "bench.json").measurements
    assert engine.images_per_s > 0 == eager.speedup - 1


def test_what_evaluate_wrote_comes_back(folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "photos"
    for name in "0123456":
        (held_out / name).mkdir(parents=True)
        pixels = np.full((32, 32), 20 * int(name), np.uint8)
        Image.fromarray(pixels).save(held_out / name / "a.png")
    artifacts = (folder, folder / "model.fp16.onnx")
    evaluate_candidates(EvaluateRequest(artifacts=artifacts, data=held_out), silent, silent)
    require_whole(folder / "evaluate.json")
    found = read(folder / "evaluate.json")
    assert found.identity.images[0].count == found.images == 7
    assert len(found.pairs) == len(found.artifacts) - 1


def require_whole_but_for_the_journal(path: Path, report: dict[str, Any]) -> None:
    found, written = json.loads(json.dumps(read(path).as_dict())), json.loads(path.read_text())
    assert found == json.loads(json.dumps(report))
    own = {"kind", "schema_version", "identity", "measured"}  # of the journal
    assert found.keys() | own == written.keys() - {"kept"}


def test_what_scaling_wrote_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn(time_ms=2.0, cpu_ms=1.5, calls=3, peak_bytes=7, working_bytes=None)
    cost = GraphCost(nodes=1, flops=2, activation_bytes=3, constant_bytes=4)
    compiled = Compiled(compiler="x", kernels=5, fused_attentions=6, compiled_bytes=7)
    monkeypatch.setattr(scaling, "measure_onnx", lambda *_: turn)
    monkeypatch.setattr(scaling, "require_installed", lambda _: None)
    monkeypatch.setattr(scaling.Graphs, "path", lambda *_: tmp_path)
    monkeypatch.setattr(scaling.Graphs, "describe", lambda *_: cost)
    monkeypatch.setattr(scaling.Graphs, "compile", lambda *_: compiled)
    for known in (False, True):
        request = ScalingRequest(
            networks=(find_variant("swin_t"),),
            sizes=((224, 224), (448, 448)),
            compiled=known,
            out=tmp_path,
        )
        report = scaling.measure_scaling(request, silent, silent)
        require_whole_but_for_the_journal(tmp_path / "scaling.json", report)
        assert all(("kernels" in point) == known for point in report["points"])


@pytest.mark.parametrize("goal", [None, 20.0])
def test_what_sensitivity_wrote_comes_back(
    goal: float | None, folder: Path, tmp_path: Path
) -> None:
    for name in "abc":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    request = SensitivityRequest(
        run=folder, calibration=tmp_path, kind="onnxruntime", min_sqnr_db=goal
    )
    report = measure_sensitivity(request, silent, silent)
    require_whole_but_for_the_journal(folder / "sensitivity.json", report)
    assert (report["mixed"] is None) == (goal is None)


LATER: tuple[tuple[str, Callable[[], dict[str, Any]], str, set[str]], ...] = (
    # What the first files of the oldest schema that is read had not, at the top and in some rows.
    ("verify.json", report_files.verified, "", {"batches"}),
    (
        *("verify.json", report_files.verified, "comparisons"),
        {"reference", "kind", "precision", "where", "judged"},
    ),
    ("bench.json", report_files.bench, "", {"kind", "batches", "baselines"}),
    ("bench.json", report_files.bench, "measurements", {"cuda_graph"}),
    ("checks.json", report_files.checks, "", {"kind"}),
    ("checks.json", report_files.checks, "checks", {"precision", "where"}),
    ("scaling.json", report_files.scaling, "points", {"cpu_ms", "compiled_bytes"}),
)


@pytest.mark.parametrize(("name", "make", "rows", "later"), LATER)
def test_what_earlier_versions_wrote_is_read(
    name: str, make: Callable[[], dict[str, Any]], rows: str, later: set[str], tmp_path: Path
) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    content = make() | {"schema_version": kind.schemas[0]}
    for row in content[rows] if rows else [content]:
        for key in later & row.keys():
            del row[key]
    path = tmp_path / name
    path.write_text(json.dumps(content))
    assert isinstance(read(path), kind.content)


Damage = tuple[str, Callable[[], dict[str, Any]], tuple[str | int, ...], object, str]
DAMAGED: tuple[Damage, ...] = (
    (
        *("scaling.json", report_files.scaling, ("fits", 0, "axis"), "depth"),
        "fits[0].axis is \"depth\", not one of 'area', 'batch'",
    ),
    (
        *("sensitivity.json", report_files.sensitivity, ("mixed", "cost", "all", "kernels"), None),
        "mixed.cost.all.kernels is null, not an integer",
    ),
    (
        *("evaluate.json", report_files.evaluation, ("artifacts", 0, "top1", "share"), 1.5),
        "artifacts[0].top1.share is 1.5, not from 0 to 1",
    ),
    (
        *("evaluate.json", report_files.evaluation, ("pairs", 0, "flips", 0, "change"), "odd"),
        "pairs[0].flips[0].change is \"odd\", not one of 'worse', 'better', 'wrong'",
    ),
    (
        *("bench.json", report_files.bench, ("measurements", 3, "calls"), -1),
        "measurements[3].calls is -1, not from 0 to",
    ),
    (
        *("bench.json", report_files.bench, ("conditions", "affinity"), 4),
        "conditions.affinity is 4, not an array",
    ),
    (
        *("verify.json", report_files.verified, ("comparisons", 0, "sqnr_db"), "high"),
        'comparisons[0].sqnr_db is "high", not a number',
    ),
    (
        *("checks.json", report_files.checks, ("bisections", 0, "rows", 1, "node"), 7),
        "bisections[0].rows[1].node is 7, not a string",
    ),
)


@pytest.mark.parametrize(
    ("name", "make", "place", "value", "words"), DAMAGED, ids=[one[0] for one in DAMAGED]
)
def test_a_value_that_does_not_fit_is_named_with_what_is_wanted(
    name: str,
    make: Callable[[], dict[str, Any]],
    place: tuple[str | int, ...],
    value: object,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, content = tmp_path / name, json.loads(json.dumps(make()))  # rows are objects of their own
    path.write_text(json.dumps(content | {"of a newer version": {"a": [1]}}))
    read(path)
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    assert run(["report", str(path), "--out", str(tmp_path / "out")]) == 3
    assert f"{path}: {words}" in capsys.readouterr().err
