"""Swin V2, padded grids and other libraries' rules go the whole way, and damage stops them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import BARE, COSINE, MIXED, PADDED, PLAIN, Silent
from damage import COSINE_DAMAGES, PADDED_DAMAGES
from swin_deploy.core.errors import VerificationError
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import BatchRange, Outputs
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export

KINDS = PADDED | {variant.name: variant for variant in (COSINE, PLAIN, BARE, MIXED)}
DAMAGED = [(COSINE, name, damage) for name, damage in COSINE_DAMAGES.items()] + [
    (variant, name, damage)
    for variant in (PADDED["padded-before-v1"], PADDED["padded-after-v2"])
    for name, damage in PADDED_DAMAGES.items()
]


def export(variant: Variant, out: Path, outputs: Outputs = "logits") -> RunResult:
    request = ExportRequest(
        variant=variant, out=out, outputs=outputs, batch=BatchRange(low=1, high=4)
    )
    return run_export(request, Silent())


@pytest.mark.parametrize("variant", KINDS.values(), ids=KINDS.keys())
def test_it_exports_simplifies_compiles_and_verifies(variant: Variant, tmp_path: Path) -> None:
    result = export(variant, tmp_path)
    assert result.stages["simplify"].details["failure"] == ""
    assert result.stages["engine:rtx-fp16"].details["kernels"] > 0
    assert result.verification["passed"]
    assert {row["candidate"] for row in result.verification["comparisons"]} >= {
        "form, stage 3",
        "onnx, simplified",
        "onnx, fp16",
        "engine cpu-fp32",
    }


@pytest.mark.parametrize("name", ["padded-before-v1", "padded-after-v2"])
def test_its_maps_do_too(name: str, tmp_path: Path) -> None:
    """Without the padded slots, and with a norm of its own where the network has one."""
    variant = PADDED[name]
    shapes = export(variant, tmp_path, "stages").stages["export"].details["outputs"]
    sides = [shape[2:] for shape in shapes.values()]
    columns = 18 if variant.config.semantics.patch_remainder == "pad" else 17
    assert sides == [[15, columns], [8, 9], [4, 5]]


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    ("variant", "damage"),
    [
        pytest.param(variant, damage, id=f"{variant.name}-{name}")
        for variant, name, damage in DAMAGED
    ],
)
def test_damage_publishes_nothing(
    variant: Variant,
    damage: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    damage(monkeypatch)
    request = ExportRequest(
        variant=variant, out=tmp_path / "run", precisions=("fp32",), targets=("cpu",)
    )
    with pytest.raises(VerificationError, match="disagree") as caught:
        run_export(request, Silent())
    assert caught.value.exit_code == 5
    assert not (tmp_path / "run" / "manifest.json").exists()
    rows = caught.value.details["verification"]["comparisons"]
    assert min(row["sqnr_db"] for row in rows if row["candidate"] == "export form") < 70
