"""The one judge: whatever is compared, damage fails and what is just good enough passes."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import swin_deploy
from answers import Answers
from swin_deploy.core.errors import VerificationError
from swin_deploy.core.records import finite
from swin_deploy.data.images import InputSet
from swin_deploy.graph import simplify
from swin_deploy.measure.verify import Comparison, Verification, compare, compare_outputs
from swin_deploy.measure.verify.bisect import compare_tensor
from swin_deploy.measure.verify.candidates import Candidate, coarser, floor_between, tensor_floor
from swin_deploy.measure.verify.checks import check_pair, check_slots
from swin_deploy.measure.verify.points import Point
from swin_deploy.network.interface import AS_EXPORTED, PRECISIONS, Interface, Precision
from swin_deploy.network.judge import (
    FLOORS,
    FLOORS_DB,
    Compared,
    FloatArray,
    Numbers,
    difference,
    int8_floor_db,
    judge,
    powers_of,
    softmax,
)
from swin_deploy.pipeline.qat import graphs as proof

Outputs = dict[str, FloatArray]
REFERENCE = np.random.default_rng(0).standard_normal((1, 10)).astype(np.float64)
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


def row_of(precision: Precision, sqnr_db: float = 15.0) -> Comparison:
    return Comparison(
        candidate=precision, inputs="photos x2", output="logits", precision=precision,
        floor_db=FLOORS_DB[precision], sqnr_db=sqnr_db,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("passed_db", "floor_db"), [(None, 20), (40, 20), (26, 20), (15, 9), (8, 3), (-5, 3)]
)
def test_engines_are_held_to_what_their_int8_graph_is(
    passed_db: float | None, floor_db: float
) -> None:
    assert int8_floor_db(passed_db) == floor_db


def test_what_accuracy_has_let_pass_is_no_constant() -> None:
    """Zeros are at 0 dB, whatever the graph of an engine was let pass with."""
    row = compare("x", "y", REFERENCE, np.zeros_like(REFERENCE), "int8")
    assert row.sqnr_db == 0
    assert not replace(row, floor_db=int8_floor_db(-math.inf))


def test_precisions_are_told_apart_where_floors_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in PRECISIONS:
        monkeypatch.setitem(FLOORS_DB, precision, 40.0)
    rows = tuple(row_of(precision, 45.0) for precision in PRECISIONS)
    assert Verification(rows, {}).fp32_floors_db == {"logits": 40.0}
    failing = Verification((row_of("fp32", 15.0),), {})
    with pytest.raises(VerificationError) as caught:
        failing.require()
    assert caught.value.hint == ""
    assert coarser([Candidate("a", "bf16"), Candidate("b", "int8")]) == "int8"


def test_an_extreme_that_needs_less_lowers_the_floor_of_extremes_alone() -> None:
    hard = replace(row_of("fp32"), inputs="spikes x2", floor_db=62.0)
    found = Verification((row_of("fp32"), hard, replace(hard, inputs="black x1", floor_db=110)), {})
    assert found.fp32_floors_db == {"logits": 110.0}
    assert found.fp32_extreme_floors_db == {"logits": 62.0}
    run: Any = SimpleNamespace(
        floors_db=found.fp32_floors_db, extreme_floors_db=found.fp32_extreme_floors_db,
        interface=AS_EXPORTED,
    )  # fmt: skip
    sides, same = (
        (Candidate("eager", "fp32", exact=True), Candidate("onnx", "fp32")),
        {"logits": REFERENCE},
    )
    for name, floor in (("noise x1", 110.0), ("photos x1", 110.0), ("spikes x1", 62.0)):
        images = InputSet(name, np.zeros((1, 3, 4, 4), np.float32))
        (row,) = check_pair(run, *sides, images, (same, same), {})
        assert row.floor_db == pytest.approx(floor), name


def test_a_verdict_follows_its_floor() -> None:
    row = row_of("fp32", 100.0)
    assert not row
    assert row.below_floor
    assert row.held_to({"logits": 90.0})
    assert not row.held_to({"stage1": 90.0})
    assert row.not_judged("why not").row().reason == "not judged: why not"
    broken = replace(row, problem="1 of 2 outputs are NaN or infinite", sqnr_db=-math.inf)
    assert not broken.below_floor
    assert not broken.held_to({"logits": -math.inf})
    assert not broken.not_judged("why not")


def test_json_has_no_numbers_that_json_has_not() -> None:
    row = compare("x", "y", REFERENCE, nan_in(REFERENCE), "fp16")
    written = Verification((row,), {}).as_dict()["comparisons"][0]
    assert written == json.loads(json.dumps(written, allow_nan=False))
    assert [written[key] for key in ("sqnr_db", "cosine", "max_abs_error")] == [None] * 3
    assert written["precision"] == "fp16"
    assert finite({"a": [math.inf, (1.0, "x")], "b": None}) == {"a": [None, [1.0, "x"]], "b": None}


def test_floors_add_up_and_extremes_have_their_own() -> None:
    sides = Candidate("fp32", "fp32"), Candidate("fp16", "fp16")
    assert floor_between((Candidate("eager", "fp32", exact=True), sides[1])) == FLOORS_DB["fp16"]
    assert floor_between(sides, extreme=True) < FLOORS["extreme"]["fp16"]
    assert tensor_floor(sides) < FLOORS["tensor"]["fp16"]


# Decibels that nothing is held to: margins, and where figures draw what has no number.
NO_FLOORS = {
    ("judge.py", "_MARGIN_DB"),
    ("gate.py", "MARGIN_DB"),
    ("bisect.py", "EQUAL_DB"),
    ("figures.py", "EQUAL_DB"),
    ("figures.py", "nothing_db"),
    ("plots.py", "_NOTHING_DB"),
}


def test_there_is_one_table_of_floors() -> None:
    """Nowhere else in the package is a table by precision with numbers, or a floor by name."""
    found = []
    for path in Path(swin_deploy.__file__).parent.rglob("*.py"):
        found += [(path.name, what) for what in floors_in(path.read_text(encoding="utf-8"))]
    assert sorted({*found} - NO_FLOORS) == [("judge.py", "a table")]
    assert {*found} >= NO_FLOORS
    assert found.count(("judge.py", "a table")) == len(FLOORS)
    full: tuple[Compared, ...] = ("output", "extreme", "tensor", "slot")
    assert all(FLOORS[kind].keys() == set(PRECISIONS) for kind in full)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("x = {'fp32': 110, 'fp16': 40}", "a table"),
        ("x = {'fp32': 110.0, 'int8': other}", "a table"),
        ("x = {'int8': other, 'fp32': -3}", "a table"),
        ("x = {'fp32': 60.0}", "a table"),
        ("LOWEST_DB = 60.0", "LOWEST_DB"),
        ("LOWEST_DB: float = 60", "LOWEST_DB"),
        ("floor_int8 = -1.0", "floor_int8"),
        ("class A:\n    least_db: float = 20", "least_db"),
        ("held(floor_db=20)", "floor_db"),
        ("def held(x, floor_db=20.0): pass", "floor_db"),
        ("def held(*, floor_db=20.0): pass", "floor_db"),
        ("ok = row.sqnr_db > 20", "sqnr_db"),
        ("ok = 20 <= sqnr_db", "sqnr_db"),
        ("ok = max(floor_db, 60.0)", "floor_db"),
    ],
)
def test_a_floor_is_found_however_it_is_written(line: str, what: str) -> None:
    assert floors_in(line) == [what]


def floors_in(source: str) -> list[str]:
    """Numbers that look like floors, by what they are given to."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if keys & {*PRECISIONS} and any(map(is_number, node.values)):
                found.append("a table")
        for names, numbers in given(node):
            if any(map(is_number, numbers)):
                found += [name for name in names if is_floor(name)]
    return found


def given(node: ast.AST) -> list[tuple[list[str], list[ast.expr | None]]]:
    """Names, and what they are assigned or compared with."""
    if isinstance(node, ast.Assign):
        return [([name_of(target) for target in node.targets], [node.value])]
    if isinstance(node, ast.AnnAssign):
        return [([name_of(node.target)], [node.value])]
    if isinstance(node, ast.keyword):
        return [([node.arg or ""], [node.value])]
    if isinstance(node, ast.arguments):
        last = [*node.posonlyargs, *node.args][-len(node.defaults) :] if node.defaults else []
        pairs = [*zip(last, node.defaults, strict=True)]
        pairs += [(a, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True) if d]
        return [([argument.arg], [default]) for argument, default in pairs]
    sides: list[ast.expr] = []
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    if isinstance(node, ast.Call) and name_of(node.func) in ("max", "min"):
        sides = node.args
    return [([name_of(side) for side in sides], [*sides])]


def name_of(node: ast.AST) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


def is_floor(name: str) -> bool:
    return "floor" in name.lower() or name.lower().endswith("_db")


def is_number(node: ast.AST | None) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
