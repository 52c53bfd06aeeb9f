"""What a network has to reach: every floor is in one table, and is the one that was meant."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import swin_deploy
from answers import REFERENCE
from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import InputSet
from swin_deploy.measure.verify import Comparison, Verification, compare
from swin_deploy.measure.verify.candidates import Candidate, coarser, floor_between, tensor_floor
from swin_deploy.measure.verify.checks import check_pair
from swin_deploy.network.interface import AS_EXPORTED, PRECISIONS, Precision
from swin_deploy.network.judge import FLOORS, FLOORS_DB, Compared, int8_floor_db


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
