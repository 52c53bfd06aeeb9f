"""The real networks through the real compiler: exported, simplified, compiled, verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import EVERY, FULL_SIZE, VITS, Silent
from swin_deploy.config import ExportRequest
from swin_deploy.networks import summarise
from swin_deploy.pipeline.run import RunResult, run_export

Export = Callable[[str, str], RunResult]

# Kernels of one inference in the FP16 engine of target rtx (tensorrt-rtx 1.7.1, default compute
# capabilities). What the compiler makes of a graph is deterministic, so these are exact.
KERNELS = {
    ("swin_t", "1"): 95,
    ("swin_t", "16"): 95,
    ("swin_t", "1:16"): 107,
    ("swin_s", "1"): 179,
    ("swin_b_384", "1"): 179,
    ("cifar10_swin", "1"): 163,
    ("swinv2_t_w8", "1"): 107,
    ("swinv2_s_w16", "1"): 203,
    ("swin_t, padded after the roll", "1"): 95,
    ("swinv2_t_w8, padded after the roll", "1"): 107,
    ("vit_t_16", "1"): 102,
    ("vit_b_16", "1"): 100,
}
QUICK = {("swin_t", "1"), ("cifar10_swin", "1")}
DYNAMIC = ("swin_t", "1:16")
ON_ITS_EXPORT = pytest.mark.xdist_group(" ".join(DYNAMIC))


def marks(case: tuple[str, str]) -> list[pytest.MarkDecorator]:
    slow = [] if case in QUICK else [pytest.mark.slow]
    return [*slow, ON_ITS_EXPORT] if case == DYNAMIC else slow


@pytest.mark.parametrize(
    ("name", "batch"), [pytest.param(*case, marks=marks(case)) for case in KERNELS]
)
def test_every_attention_fuses_and_everything_agrees(
    name: str, batch: str, export_once: Export
) -> None:
    result = export_once(name, batch)
    engine = result.stages["engine:rtx-fp16"].details
    depths = summarise(EVERY[name].config).depths
    assert engine["fused_attentions"] == sum(depths)
    assert engine["kernels"] == KERNELS[name, batch]
    simplified = result.stages["simplify"].details
    assert simplified["failure"] == ""
    assert simplified["nodes_after"] <= simplified["nodes_before"]
    verification = result.verification
    assert verification["passed"]
    assert {row["candidate"] for row in verification["comparisons"]} >= {
        "form, class token" if name in VITS else f"form, stage {len(depths)}",
        "onnx, exported",
        "onnx, simplified",
        "onnx, fp16",
        "engine cpu-fp32",
    }


@pytest.mark.slow
def test_the_maps_of_the_stages_cost_no_kernel_more_than_the_head(tmp_path: Path) -> None:
    """Three transpositions take the place of the head's three kernels; the rest fuses."""
    request = ExportRequest(variant=FULL_SIZE["swin_t"], out=tmp_path, outputs="stages")
    result = run_export(request, Silent())
    engine = result.stages["engine:rtx-fp16"].details
    assert engine["fused_attentions"] == 12
    assert engine["kernels"] == KERNELS["swin_t", "1"] == 95
    assert engine["activation_bytes"] <= 90e6
    assert result.verification["passed"]


def test_the_tiny_network_is_within_its_budget(export_once: Export) -> None:
    """At most 95 kernels; activations read and written by one image."""
    engine = export_once("swin_t", "1").stages["engine:rtx-fp16"].details
    assert engine["kernels"] <= 95
    assert engine["activation_bytes"] <= 82.5e6


@ON_ITS_EXPORT
@pytest.mark.slow
def test_a_dynamic_batch_is_verified_at_both_ends_and_between(export_once: Export) -> None:
    rows = export_once(*DYNAMIC).verification["comparisons"]
    inputs = {row["inputs"] for row in rows if row["candidate"] == "onnx, fp16"}
    assert inputs == {"noise x1", "noise x3", "noise x16"}
