"""Stages and weights of a run in a few words, for tables and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swin_deploy.precisions import HALF_PRECISIONS
from swin_deploy.run.manifest import StageRecord

NEVER_RUN = "NEVER RUN"  # an engine that no machine has run, for tables and pages


def describe_weights(weights: dict[str, Any]) -> str:
    """Where the weights came from.

    Args:
        weights: As the manifest has them.
    """
    if weights["source"] == "random":
        return (
            f"RANDOM (seed {weights['seed']}): good for timing and for proving the conversion, "
            "not for predictions"
        )
    origin = weights.get("repository") or weights.get("name")
    origin = f"{weights['source']}:{origin} at {weights['revision'][:12]}, " if origin else ""
    return f"{origin}{weights['file']} ({weights['dialect']}), sha256 {weights['sha256'][:12]}"


def never_run(stages: Mapping[str, StageRecord]) -> dict[str, str]:
    """Stage of an engine that nothing has run -> why; the gate knows it as "engine NAME"."""
    left = stages["verify"].details.get("not_run", {}) if "verify" in stages else {}
    return {name.replace("engine ", "engine:", 1): reason for name, reason in left.items()}


def describe_stage(stage: str, stages: Mapping[str, StageRecord]) -> str:
    """What a stage of a run found out, in a few words."""
    details = stages[stage].details
    if stage == "weights":
        return f"{details['tensors']} tensors, {details['dropped']} others left out"
    if stage == "export":
        return f"{details['nodes']} nodes"
    if stage == "simplify":
        kept = " (kept as exported)" if details["failure"] else ""
        return f"{details['nodes_before']} -> {details['nodes_after']} nodes{kept}"
    if stage == "interface":
        ends = {**details["inputs"], **details["outputs"]}
        return ", ".join(f"{name} {dtype}" for name, (dtype, _) in ends.items())
    if stage in HALF_PRECISIONS:
        kept = f", {len(details['fp32_nodes'])} nodes in FP32" if details["fp32_nodes"] else ""
        return f"{details['weights']} tensors, largest {details['largest']:.4g}{kept}"
    if stage == "calibrate":
        return f"{details['images']} of {details['found']} images, {details['tensors']} tensors"
    if stage.startswith("int8:"):
        agreement = details["agreement"]
        text = (
            f"{details['method']}: {len(details['gemms'])} products, {len(details['attentions'])} "
            f"attentions; {agreement['sqnr_db']:.1f} dB on {agreement['inputs']}"
        )
        if (accuracy := details["accuracy"]) is not None:
            own, full = accuracy["int8"]["top1"], accuracy["fp32"]["top1"]
            text += f", top-1 {own:.2f} % of {accuracy['images']} (FP32 {full:.2f} %)"
        return text
    if stage == "verify":
        return f"{details['comparisons']} comparisons passed"
    text = _describe_engine(details)
    return f"{NEVER_RUN}, {text}" if stage in never_run(stages) else text


def _describe_engine(details: dict[str, Any]) -> str:
    text = f"{details['module']} {details['version']}"
    if details["kernels"] is not None:
        text += f": {details['kernels']} kernels, {details['fused_attentions']} fused attentions"
    return text
