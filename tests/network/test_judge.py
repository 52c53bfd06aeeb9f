"""The numbers that two answers are compared by: every comparison fails what is not a number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from answers import REFERENCE, Answers
from swin_deploy.core.errors import VerificationError
from swin_deploy.core.records import finite
from swin_deploy.graph import simplify
from swin_deploy.measure.verify import Verification, compare, compare_outputs
from swin_deploy.measure.verify.bisect import compare_tensor
from swin_deploy.measure.verify.candidates import Candidate, tensor_floor
from swin_deploy.measure.verify.checks import check_slots
from swin_deploy.measure.verify.points import Point
from swin_deploy.network.interface import Interface
from swin_deploy.network.judge import (
    FLOORS,
    FLOORS_DB,
    FloatArray,
    Numbers,
    difference,
    judge,
    powers_of,
    softmax,
)
from swin_deploy.pipeline.qat import graphs as proof

Outputs = dict[str, FloatArray]
IMAGES = np.zeros((2, 3, 4, 4), np.float32)
Passes = Callable[[Outputs, Outputs, pytest.MonkeyPatch], bool]


def outputs(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    return all(compare_outputs("x", "y", reference, candidate, "fp32"))


def not_judged(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    rows = compare_outputs("x", "y", reference, candidate, "int8")
    return all(row.not_judged("told by accuracy") for row in rows)


def slots(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    """The image is what it should be in the first slot of two."""
    both = {
        name: np.concatenate([reference.get(name, array), array])
        for name, array in candidate.items()
    }
    return all(check_slots(Answers(reference, both), "x", "fp32", IMAGES, (2,)))


def tensors(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    sides = Candidate("eager", "fp32", exact=True), Candidate("graph", "fp32")
    held = [(side["logits"], True) for side in (reference, candidate)]
    point = Point("blocks.0", "out", "stage 1", "node")
    return bool(compare_tensor(point, held, sides, "y", tensor_floor(sides)))


def simplified(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    runners = {"before": Answers(reference), "after": Answers(candidate)}
    patch.setattr(simplify, "OnnxRuntimeRunner", lambda path: runners[path.name])
    return passes(lambda: simplify.require_same_numbers(Path("before"), Path("after"), IMAGES[:1]))


def places(reference: Outputs, candidate: Outputs, patch: pytest.MonkeyPatch) -> bool:
    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(candidate["logits"])

    patch.setattr(proof, "OnnxRuntimeRunner", lambda *_, **__: Answers(reference))
    return passes(lambda: proof.compare_places(network, Path("x"), IMAGES[:1]))  # type: ignore[arg-type]


def passes(require: Callable[[], object]) -> bool:
    try:
        require()
    except VerificationError:
        return False
    return True


def with_noise(level_db: float) -> FloatArray:
    """The reference with noise in one value, and the order of classes as it was."""
    noise = np.zeros_like(REFERENCE)
    noise[0, REFERENCE.argmax()] = np.linalg.norm(REFERENCE) * 10 ** (-level_db / 20)
    return REFERENCE + noise


def nan_in(array: FloatArray) -> FloatArray:
    changed = array.copy()
    changed[0, 3] = np.nan
    return changed


KINDS: dict[str, tuple[Passes, float | None]] = {
    "output": (outputs, FLOORS["output"]["fp32"]),
    "not judged": (not_judged, None),
    "slot": (slots, FLOORS["slot"]["fp32"]),
    "tensor": (tensors, FLOORS["tensor"]["fp32"]),
    "simplified": (simplified, FLOORS["simplified"]["fp32"]),
    "place": (places, FLOORS["place"]["fp32"]),
}
DAMAGES: dict[str, tuple[FloatArray, FloatArray]] = {
    "NaN": (REFERENCE, nan_in(REFERENCE)),
    "infinity": (REFERENCE, REFERENCE * np.inf),
    "a reference with NaN": (nan_in(REFERENCE), REFERENCE),
    "both with NaN": (nan_in(REFERENCE), nan_in(REFERENCE)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_finite_fails_whatever_is_compared(
    kind: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, _ = KINDS[kind]
    reference, candidate = ({"logits": array} for array in DAMAGES[damage])
    assert check({"logits": REFERENCE}, {"logits": REFERENCE}, monkeypatch)
    assert not check(reference, candidate, monkeypatch)


@pytest.mark.parametrize("kind", [kind for kind, (_, floor) in KINDS.items() if floor is not None])
def test_floors_are_where_they_are_said_to_be(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, floor = KINDS[kind]
    assert floor is not None
    for above, passed in ((0.1, True), (-0.1, False)):
        noisy = {"logits": with_noise(floor + above)}
        assert check({"logits": REFERENCE}, noisy, monkeypatch) is passed


@pytest.mark.parametrize("kind", [kind for kind, (_, floor) in KINDS.items() if floor is not None])
def test_a_reference_of_zeros_vouches_for_zeros_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, _ = KINDS[kind]
    zeros = {"logits": np.zeros_like(REFERENCE)}
    assert check(zeros, zeros, monkeypatch)
    assert not check(zeros, {"logits": REFERENCE * 1e-9}, monkeypatch)


@pytest.mark.parametrize("kind", ["output", "not judged", "tensor", "simplified"])
def test_another_shape_fails(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, _ = KINDS[kind]
    for shape in ((1, 9), (1, 10, 1)):
        other = {"logits": np.resize(REFERENCE, shape)}
        assert not check({"logits": REFERENCE}, other, monkeypatch)


@pytest.mark.parametrize("kind", ["output", "not judged", "simplified"])
def test_an_output_that_one_of_two_has_fails(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, _ = KINDS[kind]
    one, two = {"stage1": REFERENCE}, {"stage1": REFERENCE, "stage2": REFERENCE}
    assert not check(one, two, monkeypatch)
    assert not check(two, one, monkeypatch)


def test_fp32_names_the_same_class_and_others_need_not() -> None:
    torn = REFERENCE.copy()
    torn[0, :2] = torn.max() + 1
    other = torn.copy()
    other[0, 0] -= 1e-9
    row = compare("x", "y", torn, other, "fp32")
    assert row.sqnr_db > FLOORS_DB["fp32"]
    assert row.reason == "top-1 agreement 0.0%, needs 100 %"
    assert replace(row, precision="fp16")


def test_classes_of_another_shape_are_not_compared_by_their_scores() -> None:
    best = {"scores": np.ones((2, 1)), "classes": np.array([[3], [4]])}
    assert all(compare_outputs("x", "y", best, best, "fp32"))
    (row,) = compare_outputs("x", "y", best, best | {"classes": best["classes"][:1]}, "fp32")
    assert "classes of shape (1, 1)" in row.reason
    (row,) = compare_outputs("x", "y", best, best | {"classes": best["classes"] + 1}, "fp32")
    assert "top-1" in row.reason
    rows = compare_outputs("x", "y", best, {"classes": best["classes"]}, "fp32")
    assert [row.reason for row in rows] == ["it has no such output"]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_no_number_passes_no_floor(value: float) -> None:
    for floor in (-math.inf, 0.0, 110.0):
        passed = value == floor  # of two that are -inf
        assert (judge(Numbers(sqnr_db=value), floor) == "") is passed
    assert judge(Numbers(sqnr_db=math.inf), 110.0, same_class=math.nan)
    assert judge(Numbers(), None) == ""
    assert judge(Numbers(problem="broken"), None) == "broken"


@pytest.mark.parametrize("power", [math.nan, math.inf])
def test_the_power_of_other_images_is_no_way_around(power: float) -> None:
    """Infinite power of one set of images would make the noise of all others nothing."""
    assert judge(difference(REFERENCE, REFERENCE + 1, power), FLOORS_DB["bf16"])
    assert difference(REFERENCE, REFERENCE + 1, power).sqnr_db == -math.inf


def test_nothing_is_no_comparison() -> None:
    empty = REFERENCE[:0]
    assert "nothing to compare" in difference(empty, empty).problem


def test_the_power_is_that_of_all_images() -> None:
    parts = [{"logits": REFERENCE, "classes": np.ones((1, 1))}, {"logits": np.zeros((3, 10))}]
    with pytest.raises(KeyError):
        powers_of(parts)
    parts[1]["classes"] = np.ones((3, 1))
    assert powers_of(parts) == {"logits": pytest.approx(np.square(REFERENCE).sum() / 4)}


def test_the_power_of_what_the_ends_give_is_known_as_well() -> None:
    parts = [{"logits": REFERENCE}, {"logits": np.zeros((3, 10))}]
    powers = powers_of(parts, Interface(activation="softmax", topk=2))
    assert set(powers) == {"logits", "scores"}
    highest = np.sort(softmax(REFERENCE))[0, -2:]
    assert powers["scores"] == pytest.approx((np.square(highest).sum() + 3 * 2 * 0.1**2) / 4)
    assert set(powers_of([{"stage1": np.ones((1, 2, 3, 4))}], Interface(activation="softmax"))) == {
        "stage1"
    }


def test_json_has_no_numbers_that_json_has_not() -> None:
    row = compare("x", "y", REFERENCE, nan_in(REFERENCE), "fp16")
    written = Verification((row,), {}).as_dict()["comparisons"][0]
    assert written == json.loads(json.dumps(written, allow_nan=False))
    assert [written[key] for key in ("sqnr_db", "cosine", "max_abs_error")] == [None] * 3
    assert written["precision"] == "fp16"
    assert finite({"a": [math.inf, (1.0, "x")], "b": None}) == {"a": [None, [1.0, "x"]], "b": None}
