"""Files that other commands write, as small as a report needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from swin_deploy.core.records import decode
from swin_deploy.report.cost_tables import EngineCost, PurposeCost
from swin_deploy.report.gather import KINDS, ReportData

PLOTS = ("speedup", "throughput", "latency", "agreement", "depth", "bytes", "kernels", "scaling")
MACHINE = {
    "processor": "Jetson AGX Orin",
    "cores": 12,
    "memory_gib": 61.3,
    "system": "Linux aarch64, Python 3.10.12",
    "packages": {"numpy": "1.26.1", "tensorrt": "10.3.0"},
}
CONDITIONS = {
    "threads": 4,
    "affinity": [0, 1, 2, 3],
    "governors": ["performance"],
    "load_before": 0.25,
    "nvpmodel": "NV Power Mode: MAXN",
    "jetson_clocks": None,
}


def timing(name: str, batch: int, p50_ms: float, **more: Any) -> dict[str, Any]:
    """A row of ``bench.json``: three times as fast as the baseline, unless ``more`` says."""
    times = {f"p{p}_ms": p50_ms * (1 + (p - 50) / 1000) for p in (50, 90, 95, 99)}
    row = {"name": name, "role": "candidate", "batch": batch, "calls": 400, **times}
    row |= {"mean_ms": p50_ms, "std_ms": 0.0, "variation": 0.01}
    row |= {"images_per_s": 1e3 * batch / p50_ms, "speedup": 3.0, "speedup_low": 2.75}
    return row | {"speedup_high": 3.25, "verdict": "faster", "unstable": False} | more


def bench() -> dict[str, Any]:
    """``bench.json`` of another machine."""
    rows = []
    for batch in (1, 8):
        same = {"speedup": 1.0, "speedup_low": 1.0, "speedup_high": 1.0}
        rows.append(timing("eager", batch, 12.0, role="baseline", verdict="not told apart", **same))
        rows.append(timing("engine tensorrt-fp16", batch, 4.0, gpu_ms=3.5, joules_per_image=0.05))
    return {
        "schema_version": 3,
        "network": "pocket",
        "engine": "artifacts/pocket",
        "outputs": "logits",
        "threads": 4,
        "rounds": 20,
        "measurements": rows,
        "checks": [],
        "conditions": dict(CONDITIONS),
        "warnings": ["the board is warm"],
        "machine": dict(MACHINE),
        "not_run": {},
    }


def _share(right: int) -> dict[str, Any]:
    return {"right": right, "share": right / 1000, "interval": [right / 1000 - 0.01, 1.0]}


def evaluated(name: str, right: int, top5: int | None) -> dict[str, Any]:
    """An artifact of ``evaluate.json``."""
    row = {"name": name, "path": "/then/pocket", "precision": "fp32", "sha256": []}
    top = {"top1": _share(right), "top5": None if top5 is None else _share(top5)}
    return row | top | {"not_finite": 0}


def evaluation() -> dict[str, Any]:
    """``evaluate.json``, of two engines."""
    pair = {"a": "engine fp32", "b": "engine int8", "drop_points": 0.2, "p_value": 0.69}
    pair |= {"interval_points": [-0.3, 0.7], "only_a_right": 4, "only_b_right": 2}
    pair |= {"both_right": 983, "both_wrong": 11, "disagreements": 8}
    flip = {"image": "3/a.png", "label": 3, "a": 3, "b": 5, "change": "worse"}
    steps = {"crop": 0.9, "mean": [0.5], "std": [0.5]}
    images = {"images": "0" * 64, "count": 1000, "seed": None, "size": [32, 32], "pillow": "12.0"}
    return {
        "kind": "evaluate",
        "schema_version": 1,
        "data": "digits/val",
        "images": 1000,
        "found": 1000,
        "classes": 10,
        "class_names": [],
        "left_out": [{"image": "3/b.png", "problem": "cut off"}],
        "artifacts": [evaluated("engine fp32", 987, 999), evaluated("engine int8", 985, None)],
        "pairs": [pair | {"confusion": [{"a": 3, "b": 5, "images": 8}], "flips": [flip]}],
        "predictions_sha256": "0" * 64,
        "report": "/then/pocket/evaluate.json",
        "notes": ["3 photos cannot be read, and are left out"],
        "not_run": {},
        "identity": {
            "artifacts": [{"name": "engine fp32", "precision": "fp32", "files": [], "seed": None}],
            "images": [images | {"preprocessing": steps, "labels": "0" * 64}],
            "settings": {"batch": 16, "threads": 1, "shard": 64},
            "packages": {"torch": "2.9.0", "openvino": None},
            "source": "0" * 64,
        },
        "work": {
            "by": "one process",
            "workers": 1,
            "images": 1000,
            "seconds": 2.0,
            "images_per_s": 500.0,
            "lost": [],
            "machine": dict(MACHINE),
        },
    }


def check(candidate: str, sqnr_db: float = 120.0) -> dict[str, Any]:
    """A row of ``checks.json``, held to 110 dB."""
    row = {"kind": "outputs", "reference": "eager", "candidate": candidate, "inputs": "noise x1"}
    row |= {"output": "logits", "cosine": 0.99, "max_abs_error": 1e-3, "top1_agreement": 1.0}
    row |= {"sqnr_db": sqnr_db, "floor_db": 110.0, "passed": sqnr_db >= 110, "judged": True}
    return row | {"reason": f"SQNR {sqnr_db:.1f} dB, needs 110 dB" if sqnr_db < 110 else ""}


def verified() -> dict[str, Any]:
    """``verify.json``."""
    return {
        "schema_version": 3,
        "reference": "eager fp32",
        "passed": True,
        "comparisons": [check("onnx")],
        "not_run": {},
        "batches": {"sizes": [1], "seed": None},
    }


def checks() -> dict[str, Any]:
    """``checks.json``, with a tensor that is wrong."""
    values = (None, 60.0, 50.0, 12.0)
    rows: list[dict[str, Any]] = [
        {
            "tensor": f"blocks.{i}",
            "stage": f"stage {1 + i // 2}",
            "node": f"/blocks.{i}/Add",
            "sqnr_db": v,
            "cosine": None,
            "max_abs_error": None,
            "reason": "",
            "inputs": "noise x1, image 1",
        }
        for i, v in enumerate(values)
    ]
    rows[-1]["reason"] = "SQNR 12.0 dB, needs 30 dB"
    pair = {"reference": "eager", "candidate": "fp16", "floor_db": 30.0, "first": rows[-1]}
    pair |= {"block": "blocks.3", "largest_drop": {"tensor": "blocks.3", "drop_db": 38.0}}
    pair |= {"stages": {f"stage {1 + i // 2}": row for i, row in enumerate(rows)}, "inside": []}
    pair |= {"unmatched": [], "notes": [], "rows": rows}
    return {
        "schema_version": 1,
        "run": "artifacts/pocket",
        "network": "pocket",
        "against": None,
        "machine": dict(MACHINE),
        "passed": False,
        "problem": "outputs agree, and a tensor inside does not",
        "checks": [check("raw"), check("cpu-fp32")],
        "bisections": [pair],
        "not_run": {},
        "notes": [],
    }


def scaling() -> dict[str, Any]:
    """``scaling.json``, of two networks."""
    points = [
        {
            "name": f"{name} {side}x{side} batch 1",
            "network": name,
            "batch": 1,
            "image_size": [side, side],
            "area": side * side,
            "nodes": 9,
            "flops": 9,
            "activation_bytes": 9,
            "constant_bytes": 9,
            "time_ms": float(side) ** power,
            "time_low_ms": 1.0,
            "time_high_ms": 1.0,
            "time_variation": 0.0,
            "peak_bytes": None,
            "working_bytes": None,
        }
        for name, power in (("swin_t", 2.0), ("vit_t_16", 3.0))
        for side in (224, 448)
    ]
    fit = {"axis": "area", "batch": 1, "cost": "time_ms", "low": None, "high": None}
    fit |= {"points": 2, "largest": 1.0}
    return {
        "schema_version": 1,
        "runtime": "onnxruntime",
        "threads": 2,
        "rounds": 2,
        "seed": 0,
        "machine": dict(MACHINE),
        "points": points,
        "fits": [fit | {"network": "swin_t", "exponent": 1.0}],
        "notes": [],
    }


def sensitivity() -> dict[str, Any]:
    """``sensitivity.json``, with a suggestion."""
    labelled = {"right": None, "accuracy": None, "interval": None}
    effect = {"mean_sqnr_db": 50.0, "sqnr_db": 45.5, "agreement": 0.95, "drop_points": None}
    effect |= {"agreeing": 28} | labelled
    places: list[dict[str, Any]] = [
        effect | {"name": "layers.0.blocks.1.attn", "kind": "attention", "sqnr_db": 30.25},
        effect | {"name": "layers.0.blocks.0.mlp.fc1", "kind": "fc1"},
        effect | {"name": "layers.0.blocks.0.mlp.fc2", "kind": "fc2", "sqnr_db": None},
    ]
    places = [place | {"order": order} for order, place in enumerate(places)]
    cost = {"compiler": "tensorrt_rtx 1.7", "kernels": 9, "fused_attentions": 6}
    cost |= {"activation_bytes": 9, "weight_bytes": None}
    mixed = effect | {"max_drop_points": None, "min_sqnr_db": 40.0, "quantised": 2}
    mixed |= {"placements_tried": 3, "cost": {"all": cost, "mixed": None}}
    mixed |= {"keep": [places[0]["name"]], "left": [places[0]["name"]]}
    return {
        "kind": "sensitivity",
        "schema_version": 1,
        "network": "pocket",
        "run": "artifacts/pocket",
        "recipe": "tensorrt",
        "method": "percentile",
        "calibration_images": 100,
        "images": 30,
        "fp32": labelled,
        "places": places,
        "all": effect,
        "mixed": mixed | {"mean_sqnr_db": 48.0, "sqnr_db": 41.5},
        "notes": ["measured on the images of the calibration"],
    }


def complete(data: ReportData) -> ReportData:
    """The same with a part for every plot in its first source."""
    first = data.sources[0]
    found = {
        "bench": first.bench or parse("bench.json", bench()),
        "evaluate": parse("evaluate.json", evaluation()),
        "checks": parse("checks.json", checks()),
        "scaling": parse("scaling.json", scaling()),
        "sensitivity": parse("sensitivity.json", sensitivity()),
    }
    cost = EngineCost(
        name="pocket rtx-fp16",
        compiler="tensorrt_rtx 1.7",
        batch=(2, 2),
        attentions=6,
        fused_attentions=6,
        purposes=tuple(
            PurposeCost(
                purpose=p, kernels=k, activation_bytes=k * 10**6, weight_bytes=10**5, flops=k
            )
            for p, k in (("attention", 6), ("mlp", 12), ("head", 2))
        ),
        warnings=(),
    )
    return ReportData(sources=(replace(first, costs=(cost,), **found), *data.sources[1:]))


def parse(name: str, content: object) -> Any:
    """What becomes of a file's content."""
    kind = next(kind for kind in KINDS if kind.name == name)
    return decode(kind.content, content, name, newer=True)
