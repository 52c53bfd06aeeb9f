"""Which precision is recommended, and that INT8 is not merely because it is INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import POCKET, Silent
from swin_deploy.core.errors import ConfigError
from swin_deploy.engine.targets import TARGETS, auto_precisions
from swin_deploy.pipeline import recommend as module
from swin_deploy.pipeline.recommend import by_cost, by_measurement, recommend
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export


def row(low: float, high: float, unstable: bool = False) -> dict[str, Any]:
    middle = (low + high) / 2
    return {
        "batch": 1,
        "p50_ms": 10 / middle,
        "speedup_low": low,
        "speedup_high": high,
        "unstable": unstable,
    }


@pytest.mark.parametrize(
    ("fp32", "int8", "expected"),
    [
        (row(1.9, 2.1), row(3.0, 3.4), "int8"),
        (row(1.9, 2.1), row(2.05, 3.4), "fp32"),  # not in every turn
        (row(1.9, 2.1), row(1.0, 1.4), "fp32"),
        (row(1.9, 2.1), row(3.0, 3.4, unstable=True), "fp32"),
        (row(1.9, 2.1, unstable=True), row(3.0, 3.4), "fp32"),
    ],
    ids=["faster", "not always", "slower", "unstable", "unstable baseline"],
)
def test_int8_has_to_be_faster_in_every_turn(
    fp32: dict[str, Any], int8: dict[str, Any], expected: str
) -> None:
    measured = {"engine cpu-fp32": fp32, "engine cpu-int8": int8}
    choice = by_measurement("cpu", ["fp32", "int8"], measured)
    assert (choice.precision, choice.basis) == (expected, "measured")
    assert "fp32 5.00 ms" in choice.reason


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"fp16": (95, 141_600_000), "int8": (103, 106_200_000)}, "int8"),
        ({"fp16": (95, 141_600_000), "int8": (103, 130_000_000)}, "fp16"),
        ({"fp16": (95, 141_600_000), "int8": (119, 106_200_000)}, "fp16"),
        ({"fp16": (107, None), "int8": (107, None)}, "fp16"),
        ({"fp16": (None, None), "int8": (None, None)}, "fp16"),
    ],
    ids=["cheaper", "hardly smaller", "many kernels", "dynamic", "unknown"],
)
def test_without_the_device_cost_decides_and_says_so(
    costs: dict[str, tuple[int | None, int | None]],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    pocket_run: RunResult,
) -> None:
    monkeypatch.setattr(module, "_cost", lambda result, target, precision: costs[precision])
    choice = by_cost(pocket_run, TARGETS["rtx"], ["fp16", "int8"])
    assert (choice.precision, choice.basis) == (expected, "cost")
    assert "that is no time" in choice.reason


def test_a_run_gets_a_recommendation_for_every_target(tmp_path: Path) -> None:
    request = ExportRequest(
        variant=POCKET,
        out=tmp_path,
        precisions=("fp32", "fp16", "bf16"),
        targets=("cpu", "rtx"),
    )
    cpu, rtx = recommend(run_export(request, Silent()), lambda text: None)
    assert (cpu.target, cpu.precision, cpu.basis) == ("cpu", "fp32", "only")
    assert (rtx.target, rtx.precision) == ("rtx", "fp16")
    assert rtx.basis in ("cost", "measured")


def test_auto_takes_int8_only_where_it_can_be_calibrated() -> None:
    assert auto_precisions((), calibrated=False) == ("fp32", "fp16")
    assert auto_precisions((), calibrated=True) == ("fp32", "fp16", "int8")
    assert auto_precisions(("rtx",), calibrated=True) == ("fp16", "int8")
    with pytest.raises(ConfigError, match="unknown target"):
        auto_precisions(("rtxx",), calibrated=True)
