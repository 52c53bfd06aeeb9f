"""Plans that nothing here can run: each is what its compiler wrote, of its graph, and marked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import behind
from conftest import Silent
from gates import published, request
from swin_deploy.bundle.make import write_guide
from swin_deploy.bundle.source import never_run_note
from swin_deploy.core.errors import VerificationError
from swin_deploy.core.files import sha256
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.pipeline import engines, gate, stages
from swin_deploy.pipeline.run import run_export
from swin_deploy.pipeline.stages import Stage
from swin_deploy.report.deployment import describe_stage
from swin_deploy.run.finished import require_run
from swin_deploy.run.manifest import read_manifest

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_gate")


@pytest.fixture(scope="module")
def plans(gate_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with plans for GPUs of two kinds, of which none is here."""
    out = shutil.copytree(gate_run, tmp_path_factory.mktemp("plans") / "run")
    return run_export(request(out, **PLANS), Silent()).path


PLANS = {"precisions": ("fp32", "fp16"), "targets": ("cpu", "rtx-40", "rtx-50")}
PLAN = "engine:rtx-50-fp16", "engines/rtx-50-fp16.plan"


def end_in_zeros(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))


def be_another(path: Path) -> None:
    """The plan of the same graph for another GPU."""
    shutil.copy(path.with_name("rtx-40-fp16.plan"), path)


@pytest.mark.parametrize("change", [end_in_zeros, be_another])
def test_a_plan_that_nothing_runs_is_what_its_compiler_wrote(
    plans: Path, change: behind.Change, tmp_path: Path
) -> None:
    copy = shutil.copytree(plans, tmp_path / "run")
    staged = copy / ".staging" / "engines"
    staged.mkdir(parents=True)
    shutil.copy(plans / "engines" / "rtx-40-fp16.plan", staged)
    with pytest.raises(VerificationError, match=r"rtx-50-fp16\.plan is not the file") as caught:
        run_export(request(copy, **PLANS), Silent(), behind.behind(*PLAN, change))
    assert caught.value.exit_code == 5
    assert published(copy) == published(plans)


def of_another_graph(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"blocks.0.attn", b"blocks.9.attn"))


def of_nothing(path: Path) -> None:
    """Neither it nor its listing names anything."""
    path.write_bytes(bytes(4096))
    listing = path.with_suffix(".kernels.json")
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"kernels": []}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (of_another_graph, "nodes that its graph does not have"),
        (of_nothing, r"names no node of model\.fp16\.onnx"),
    ],
)
def test_a_plan_names_the_nodes_of_its_graph(
    change: behind.Change, problem: str, plans: Path, tmp_path: Path
) -> None:
    """With a hash to go with it, it still is the plan of another graph, or of none."""
    copy = shutil.copytree(plans, tmp_path / "run")

    def adapt(stages: list[Stage]) -> list[Stage]:
        (stage,) = (one for one in behind.behind(*PLAN, change)(stages) if one.name == PLAN[0])

        def action(context: Any) -> dict[str, Any]:
            details = stage.action(context)
            details["written"]["files"][".plan"] = sha256(context.folder.scratch(PLAN[1]))
            return details

        return [replace(stage, action=action) if one.name == PLAN[0] else one for one in stages]

    with pytest.raises(VerificationError, match=problem):
        run_export(request(copy, **PLANS), Silent(), adapt)


def test_an_engine_of_another_graph_is_refused(
    plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(plans, tmp_path / "run")
    monkeypatch.setattr(engines, "graph_of", lambda target, precision: "model.onnx")
    with pytest.raises(VerificationError, match=r"model\.fp16\.onnx is not the file"):
        run_export(request(copy, **PLANS), Silent(), behind.behind(*PLAN, lambda path: None))
    assert published(copy) == published(plans)


def test_an_engine_runs_as_soon_as_a_machine_can_and_is_then_proven_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, here = request(tmp_path / "run"), ""

    def why(target: Target, flags: Sequence[str] = ()) -> str | None:
        return here or None

    monkeypatch.setattr(gate, "why_not_here", why)
    monkeypatch.setattr(stages, "why_not_here", why)
    candidates = []
    for here, current in (  # noqa: B007 - read by ``why``
        ("no such CPU", False),
        ("no such CPU", True),
        ("", False),
        ("", True),
        ("no such CPU", True),
    ):
        result = run_export(asked, Silent())
        assert ("verify" in result.current) == current
        manifest = read_manifest(asked.out / "manifest.json")
        rows = result.verification["comparisons"]
        candidates.append("engine cpu-fp32" in {row["candidate"] for row in rows})
        assert ("engine cpu-fp32" in manifest.header.never_run) == (not candidates[-1])
    assert candidates == [False, False, True, True, True]


@pytest.mark.skipif(device_problem() is None, reason="such a plan might run here")
def test_what_nothing_ran_is_marked_wherever_it_is_named(plans: Path) -> None:
    manifest = read_manifest(plans / "manifest.json")
    assert manifest is not None
    assert list(manifest.header.never_run) == ["engine rtx-40-fp16", "engine rtx-50-fp16"]
    marked = {n for n in manifest.stages if describe_stage(n, manifest.stages).startswith("NEVER")}
    assert marked == {"engine:rtx-40-fp16", "engine:rtx-50-fp16"}
    source = require_run(plans)
    for target, never in (("cpu", False), ("rtx-50", True)):
        note = never_run_note(source, TARGETS[target])
        assert (note is not None) == never
        guide = write_guide(source, TARGETS[target], ("fp16",)).decode()
        assert ("NEVER RUN" in guide) == never
