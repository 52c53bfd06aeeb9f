"""The real networks through the real compiler: exported, simplified, compiled, verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import EVERY, FULL_SIZE, VITS, Silent
from kernel_records import CASES, Case, compile_case, group_of, params, require_recorded
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.cost import open_subjects
from swin_deploy.network.catalogue import summarise
from swin_deploy.network.interface import DRAWN, BatchRange
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export

Export = Callable[[str, str], RunResult]
DYNAMIC = ("swin_t", "1:16")


@pytest.mark.parametrize("case", params(case for case in CASES if case.whole_run))
def test_every_attention_fuses_and_everything_agrees(case: Case, export_once: Export) -> None:
    result = export_once(case.network, case.batch)
    (subject,) = open_subjects(result.path, lambda title: None)
    require_recorded(case, subject)
    depths = summarise(EVERY[case.network].config).depths
    assert subject.listing.fused_attentions == sum(depths)
    simplified = result.stages["simplify"].details
    assert simplified["failure"] == ""
    assert simplified["nodes_after"] <= simplified["nodes_before"]
    verification = result.verification
    assert verification["passed"]
    assert {row["candidate"] for row in verification["comparisons"]} >= {
        "form, class token" if case.network in VITS else f"form, stage {len(depths)}",
        "onnx, exported",
        "onnx, simplified",
        "onnx, fp16",
        "engine cpu-fp32",
    }


@pytest.mark.parametrize("case", params(case for case in CASES if not case.whole_run))
def test_large_ones_compile_as_recorded(case: Case) -> None:
    subject = compile_case(case)
    require_recorded(case, subject)
    assert subject.listing.fused_attentions == sum(summarise(EVERY[case.network].config).depths)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_maps_of_the_stages_cost_no_kernel_more_than_the_head(tmp_path: Path) -> None:
    """Three transpositions take the place of the head's three kernels; the rest fuses."""
    request = ExportRequest(variant=FULL_SIZE["swin_t"], out=tmp_path, outputs="stages")
    result = run_export(request, Silent())
    engine = result.stages["engine:rtx-fp16"].details
    assert engine["fused_attentions"] == 12
    assert engine["kernels"] == 95  # as in kernels/swin_t-b1.txt
    assert engine["activation_bytes"] <= 90e6
    assert result.verification["passed"]


def test_the_tiny_network_is_within_its_budget(export_once: Export) -> None:
    """At most 95 kernels; activations read and written by one image."""
    engine = export_once("swin_t", "1").stages["engine:rtx-fp16"].details
    assert engine["kernels"] <= 95
    assert engine["activation_bytes"] <= 82.5e6


@pytest.mark.xdist_group(group_of("swin_t", "1"))
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "kernels"),
    [
        ("rtx-20", 108),
        *(pytest.param(f"rtx-{series}", 95, marks=pytest.mark.nightly) for series in (30, 40, 50)),
    ],
)
def test_every_series_of_gpus_fuses_every_attention(
    target: str, kernels: int, export_once: Export, tmp_path: Path
) -> None:
    """Compiled for it alone, without it."""
    graph = export_once("swin_t", "1").path / "model.fp16.onnx"
    engine = build_engine(
        TARGETS[target], graph, tmp_path / "x.plan", BatchRange(), tmp_path / "log"
    )
    assert (engine.kernels, engine.fused_attentions) == (kernels, 12)


@pytest.mark.xdist_group(group_of(*DYNAMIC))
@pytest.mark.slow
def test_a_dynamic_batch_is_verified_at_both_ends_and_between(export_once: Export) -> None:
    rows = export_once(*DYNAMIC).verification["comparisons"]
    inputs = {row["inputs"] for row in rows if row["candidate"] == "onnx, fp16"}
    noise = {name for name in inputs if name.startswith("noise")}
    assert noise >= {"noise x1", "noise x16"}
    assert len(noise) == 2 + DRAWN
