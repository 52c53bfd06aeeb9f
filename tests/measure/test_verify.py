"""The gate itself: what passes, what fails, and that nothing compared is a failure."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from conftest import POCKET
from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.measure.verify import (
    FLOORS_DB,
    Verification,
    compare,
    compare_outputs,
    compare_runners,
)
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray, mean_power
from swin_deploy.network.model.build import build_model
from swin_deploy.report.run_tables import fold_outputs

LOGITS = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)


def noisy(snr_db: float) -> FloatArray:
    """The logits with noise in every row, at exactly ``snr_db`` below the mean power."""
    noise = np.random.default_rng(1).standard_normal(LOGITS.shape)
    noise *= (mean_power(LOGITS) ** 0.5 / np.linalg.norm(noise, axis=1))[:, None]
    return LOGITS + noise * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_floor_is_where_it_is_said_to_be(precision: str) -> None:
    floor = FLOORS_DB[precision]  # type: ignore[index]
    assert compare("x", "y", LOGITS.astype(float), noisy(floor + 0.1), precision)  # type: ignore[arg-type]
    failed = compare("x", "y", LOGITS.astype(float), noisy(floor - 0.1), precision)  # type: ignore[arg-type]
    assert not failed
    assert f"needs {floor:.0f} dB" in failed.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_output_fails(bad: float) -> None:
    outputs = LOGITS.copy()
    outputs[2, 7] = bad
    comparison = compare("x", "y", LOGITS, outputs, "fp16")
    assert comparison.reason == "1 of 30 outputs are NaN or infinite"
    assert not compare("x", "y", outputs, LOGITS, "fp16")


def test_a_wrong_shape_fails_with_both() -> None:
    reason = compare("x", "y", LOGITS, LOGITS[:, :9], "fp16").reason
    assert "(3, 9)" in reason
    assert "(3, 10)" in reason


def test_one_wrong_slot_of_a_batch_fails() -> None:
    outputs = LOGITS.copy()
    outputs[1] = outputs[0]
    assert not compare("x", "y", LOGITS, outputs, "fp16")


def test_nothing_compared_is_a_failure() -> None:
    with pytest.raises(VerificationError, match="nothing was compared"):
        Verification((), {}).require()
    assert Verification((), {}).as_dict()["passed"] is False


def test_failures_are_named_worst_first_and_the_table_goes_along() -> None:
    comparisons = (
        compare("fine", "noise", LOGITS, LOGITS, "fp32"),
        compare("bad", "noise", LOGITS, noisy(30), "fp32"),
        compare("worse", "noise", LOGITS, noisy(10), "fp32"),
    )
    with pytest.raises(VerificationError, match=r"worse, bad disagree .* SQNR 10.0 dB") as caught:
        Verification(comparisons, {}).require()
    table = json.loads(json.dumps(caught.value.details["verification"]))
    assert [row["passed"] for row in table["comparisons"]] == [True, False, False]
    assert table["comparisons"][0]["sqnr_db"] is None  # infinite: JSON has no word for it


class Scaled:
    """A runner whose outputs are the network's times a factor, three images a call."""

    def __init__(self, inner: TorchRunner, factor: float) -> None:
        self.inner, self.factor, self.name = inner, factor, f"times {factor}"
        self.batch = BatchRange(low=3, high=3)
        self.calls: list[int] = []

    def __enter__(self) -> Scaled:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        self.calls.append(len(images))
        outputs = self.inner.run(images)
        return {name: array * np.float32(self.factor) for name, array in outputs.items()}


def test_runners_are_compared_over_all_inputs_in_calls_that_fit() -> None:
    reference = TorchRunner(build_model(POCKET.config))
    inputs = [make_noise(count, 3, (64, 64)) for count in (1, 4)]
    right, wrong = Scaled(reference, 1.0), Scaled(reference, 1.01)
    comparisons = compare_runners(reference, [(right, "fp32"), (wrong, "fp32")], inputs)
    assert [bool(comparison) for comparison in comparisons] == [True, True, False, False]
    assert right.calls == [3, 3, 3]
    assert run_all(right, inputs[1].images)["logits"].shape == (4, 7)


def test_every_output_is_compared_and_none_may_be_missing() -> None:
    maps = {"stage1": LOGITS, "stage2": LOGITS * 2}
    wrong = maps | {"stage2": LOGITS * np.float32(2.02)}
    rows = compare_outputs("x", "y", maps, wrong, "fp32")
    assert [(row.output, bool(row)) for row in rows] == [("stage1", True), ("stage2", False)]
    assert [row.top1_agreement for row in rows] == [None, None]
    with pytest.raises(VerificationError, match=r"x disagrees .* in stage2 on y"):
        Verification(tuple(rows), {}).require()
    rows = compare_outputs("x", "y", maps, {"stage1": LOGITS, "logits": LOGITS}, "fp32")
    assert {row.output: row.reason for row in rows} == {
        "stage1": "",
        "stage2": "it has no such output",
        "logits": "the reference has no such output",
    }


def test_a_table_shows_the_worst_output_or_all_that_failed() -> None:
    def row(inputs: str, output: str, sqnr_db: float | None, passed: bool) -> ComparisonRow:
        rest: dict[str, Any] = dict.fromkeys(
            ("cosine", "max_abs_error", "floor_db", "top1_agreement")
        )
        return ComparisonRow(
            candidate="x", inputs=inputs, output=output, sqnr_db=sqnr_db, passed=passed,
            reason="", **rest,
        )  # fmt: skip

    fine = [row("a", "stage1", None, True), row("a", "stage2", 120.0, True)]
    bad = [row("b", "stage1", 30.0, False), row("b", "stage2", 5.0, False)]
    folded = fold_outputs([*fine, *bad, row("b", "stage3", 120.0, True)])
    assert [(shown.inputs, shown.output, outputs) for shown, outputs in folded] == [
        ("a", "stage2", 2),
        ("b", "stage1", 3),
        ("b", "stage2", 3),
    ]


def test_noise_is_the_same_every_time_and_differs_between_counts() -> None:
    one, same = make_noise(2, 3, (8, 8)).images, make_noise(2, 3, (8, 8)).images
    assert np.array_equal(one, same)
    assert not np.array_equal(one[0], make_noise(1, 3, (8, 8)).images[0])
